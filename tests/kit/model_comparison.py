"""Run a sequence of jobs on the service and on the model, and compare their results."""

import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count

import asyncpg
from hypothesis import strategies as st

from schemas.requests import LISTED_ADDRESS_FIELD
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.model import RANK, SPREAD_RANK, Model

LIMIT = 2
ADDRESSES = [f"a{n}@example.com" for n in range(7)]
KINDS = ["admin", "manual", "list_unsubscribe", "feedback", "spam"]

links = st.dictionaries(st.integers(1, 3), st.sampled_from(ADDRESSES), max_size=3)
link_lists = st.lists(links, min_size=1, max_size=7)
any_status = st.one_of(
    st.just(("non_marketable", False)),
    st.tuples(st.sampled_from(sorted(RANK)), st.just(False)),
    st.tuples(st.sampled_from(sorted(SPREAD_RANK)), st.just(True)),
)
start_statuses = st.lists(any_status, min_size=len(ADDRESSES), max_size=len(ADDRESSES))
fields = st.sets(st.integers(1, 3), min_size=1).map(sorted)
contact_choices = st.sets(st.integers(0, 8), min_size=1, max_size=8).map(sorted)
opt_ins = st.tuples(st.just("opt_in"), contact_choices, fields, st.none())
opt_outs = st.tuples(st.just("opt_out"), contact_choices, fields, st.sampled_from(KINDS))
address_opt_outs = st.tuples(
    st.just("opt_out"),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=5, unique=True),
    st.just([LISTED_ADDRESS_FIELD]),
    st.sampled_from(KINDS),
)
"""Address lists, which may include addresses without a contact."""
distinct_links = links.map(lambda held: {n: a for a, n in {a: n for n, a in held.items()}.items()})
imports = st.tuples(
    st.just("import"),
    st.lists(
        st.tuples(st.sampled_from(["", "Ann", "Bob"]), distinct_links.filter(bool)),
        min_size=1,
        max_size=5,
    ),
    st.none(),
    st.booleans(),
)
"""Rows with or without a name, with at least one address and none twice, as an import accepts."""
events = st.tuples(
    st.just("event"),
    st.sampled_from(ADDRESSES),
    st.none(),
    st.sampled_from([status for status, rank in RANK.items() if rank < 3]),
)
"""A status change from elsewhere: a bounce, a confirmation, a lack of engagement."""

selecting_jobs = st.lists(st.one_of(opt_ins, opt_outs, address_opt_outs), min_size=1, max_size=4)
job_sequences = st.lists(
    st.one_of(imports, imports, opt_ins, opt_outs, address_opt_outs, events),
    min_size=2,
    max_size=7,
)

RunJob = Callable[..., Awaitable[int]]
"""Takes (account, action, contacts, addresses or CSV, fields, params); returns the id of the ended
job.
"""

_numbers = count(1)


class ModelComparison:
    """One account, in the database and in the model.

    The contact that an import row matches may depend on the rows done before. Unless rows are done
    `in_order`, each therefore has a unique name.
    """

    def __init__(self, pool: asyncpg.Pool, run_job: RunJob, *, in_order: bool = False) -> None:
        self.pool = pool
        self.in_order = in_order
        self.run_job = run_job
        self.account = f"comparison-{next(_numbers)}"
        self.account_id = 0
        self.model = Model(LIMIT)
        self.ids: list[int] = []

    async def begin(self, contacts=(), present=()) -> None:
        """Start with these contacts and statuses, even if they contradict the rules."""
        self.account_id = await make_account(self.pool, self.account)
        if contacts:
            base = 1_000_000 + self.account_id * 100
            self.ids = [base + n for n in range(len(contacts))]
            self.model = Model(
                LIMIT,
                dict(zip(self.ids, map(dict, contacts), strict=True)),
                dict(zip(ADDRESSES, present, strict=True)),
            )
            await fill(self.pool, self.account_id, self.model.contacts, self.model.statuses)

    async def apply(self, action, what, chosen, how) -> None:
        """Apply one job or event to both sides; check that everything is equal."""
        if action == "event":
            await self._event(what, how)
            return
        was_out = {a for a in self.model.statuses if self.model._rank(a) >= 3}
        before = await statuses_of(self.pool, self.account_id)
        if action == "import":
            if not self.in_order:
                what = [(f"P{next(_numbers)}", links) for _, links in what]
            job_id, expected = await self._import(what, permission=how)
        elif chosen == [LISTED_ADDRESS_FIELD]:
            job_id = await self.run_job(self.account, action, what, chosen, {"kind": how})
            expected = self.model.opt_out_addresses(what, how)
        else:
            ids = [self.ids[n] if n < len(self.ids) else 999_999_000 + n for n in what]
            params = {"kind": how} if how else {}
            job_id = await self.run_job(self.account, action, ids, chosen, params)
            if action == "opt_in":
                expected = self.model.opt_in(ids, chosen)
            else:
                expected = self.model.opt_out(ids, chosen, how)
        after = await statuses_of(self.pool, self.account_id)
        counts = await read_counts(self.pool, job_id)
        # A row's addition to an earlier contact may reject another row, or opt it out later.
        assert counts == expected or (self.in_order and counts.total() == expected.total())
        assert after == self.model.statuses
        assert all(RANK[after[address][0]] >= 5 for address in was_out)
        assert await self._miscounted() == []
        await self._check_ledger(job_id, before, after)

    async def _import(self, rows, *, permission) -> tuple[int, Counter]:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["First Name", "Email", "Email Address 2", "Email Address 3"])
        writer.writerows([name, *(held.get(n, "") for n in (1, 2, 3))] for name, held in rows)
        job_id = await self.run_job(
            self.account, "import", text.getvalue().encode(), None, {"permission": permission}
        )
        ids = await self.pool.fetchval(
            "select array_agg(id order by id) from job_chunks, unnest(item_ids) as id"
            " where job_id = $1 and state = 'done'",
            job_id,
        )
        expected, matches = self.model.import_rows(
            dict(zip(ids, rows, strict=True)), permission=permission
        )
        found = await self.pool.fetch(
            "select item_id, contact_id from recognized_rows where job_id = $1", job_id
        )
        assert dict(found) == matches
        self.ids += [id_ for id_ in ids if id_ not in matches]
        return job_id, expected

    async def _event(self, address: str, status: str) -> None:
        if self.model.statuses.get(address) and self.model._rank(address) < 3:
            self.model.statuses[address] = (status, False)
            await self.pool.execute(
                "update email_addresses set previous_status = status, status = $3"
                " where account_id = $1 and match_key = $2",
                self.account_id,
                address,
                status,
            )

    async def _miscounted(self) -> list[asyncpg.Record]:
        """Return addresses whose counts of contacts and repeats differ from their
        actual contacts.
        """
        return await self.pool.fetch(
            "select a.match_key, a.contact_count, a.repeat_count from email_addresses a"
            " where a.account_id = $1 and (a.contact_count, a.repeat_count) <> ("
            " select count(distinct e.contact_id),"
            " count(distinct e.contact_id) filter (where c.is_repeat)"
            " from contact_emails e join contacts c on c.id = e.contact_id"
            " where e.address_id = a.id)",
            self.account_id,
        )

    async def _check_ledger(self, job_id: int, before, after) -> None:
        """Promise 6: applied results form an unbroken chain from the first to the
        present status.
        """
        rows = await self.pool.fetch(
            "select a.match_key, r.from_status, r.to_status, r.cause, r.source_address_id,"
            " s.account_id as source_account"
            " from results r join email_addresses a on a.id = r.address_id"
            " left join email_addresses s on s.id = r.source_address_id"
            " where r.job_id = $1 and r.outcome = 'applied'"
            " order by r.decided_at, r.cause, r.contact_id",
            job_id,
        )
        present = {address: status for address, (status, _) in before.items()}
        for row in rows:
            assert row["from_status"] == present.get(row["match_key"]), dict(row)
            present[row["match_key"]] = row["to_status"]
            if row["cause"] == "propagated":
                assert row["source_account"] == self.account_id
        assert present == {address: status for address, (status, _) in after.items()}


async def read_counts(pool: asyncpg.Pool, job_id: int) -> Counter:
    """Return direct outcomes by reason from the results, checked against the job's own counts."""
    counts = Counter()
    for row in await pool.fetch(
        "select outcome, reason, count(*) as rows from results"
        " where job_id = $1 and cause = 'direct' group by 1, 2",
        job_id,
    ):
        counts[row["outcome"], row["reason"]] = row["rows"]
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert job["state"] == "completed"
    for outcome in ("applied", "unchanged", "rejected"):
        assert job[outcome] == sum(n for (name, _), n in counts.items() if name == outcome)
    assert job["selected"] - counts.total() == job["empty"]
    if job["empty"]:
        counts["empty", None] = job["empty"]
    propagated = await pool.fetchval(
        "select count(*) from results where job_id = $1 and cause = 'propagated'", job_id
    )
    assert job["propagated"] == propagated
    return counts
