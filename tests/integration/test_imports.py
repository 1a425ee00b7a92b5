"""A contact file is stored as exactly one import job, either completely or not at all."""

import asyncio
import io
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from db import imports, jobs
from engine.planner import plan_job
from producers import file_text
from producers.imports import submit_import
from producers.invalid_request import parse_request
from producers.submit import submit
from schemas.errors import IdempotencyConflict, InvalidRequest, NotFound
from schemas.job_key import JobKey
from tests.kit.factories import DEFAULT_ACCOUNT

HEADER = "First Name,Last Name,Company,Email,Email Address 2,Email Address 3,Tags\n"
CSV_TEXT = (
    HEADER + 'Zoë,Kovács,"Bright, Water",Zoe@Example.com,zoe@bücher.example.net,,"news, vip"\n'
    "Bo,,,bo@example.com,BO@example.com,,\n"
    ",,,nobody,,cy@example.com,\n"
    "Di,,,nobody,,,\n"
    "Ed,too few\n"
    "\n"
    ",,,fay@example.com,,,news\n"
)


def csv(text: str = CSV_TEXT) -> io.BytesIO:
    """Return the text as an uploaded file."""
    return io.BytesIO(text.encode())


def make_csv(rows: int) -> str:
    """Return a CSV with this many contacts."""
    return HEADER + "".join(f"Ann,,,ann{n}@example.com,,,\n" for n in range(rows))


@pytest.fixture
def import_csv(pool, settings):
    """Return a function that submits an import, with defaults that do not matter to the test."""

    async def submitted(file=None, **options):
        return await submit_import(
            pool,
            settings,
            **{
                "file": csv() if file is None else file,
                "permission": True,
                "requested_by": "mara",
                **options,
            },
        )

    return submitted


async def count_stored_rows(pool):
    """Count the rows in the tables that an import writes."""
    return tuple(
        await pool.fetchrow(
            "select (select count(*) from jobs), (select count(*) from import_rows),"
            " (select count(*) from import_rejections)"
        )
    )


@pytest.mark.parametrize("block", [1, 2, 5_000])
async def test_rows_are_staged_as_the_file_has_them(pool, import_csv, monkeypatch, block):
    """Each row is staged with line, names, tags, addresses and match keys, in the file's order."""
    monkeypatch.setattr(file_text, "FIRST_BLOCK_BYTES", block)
    monkeypatch.setattr(file_text, "BLOCK_BYTES", block)
    submitted = await import_csv()
    rows = await pool.fetch(
        "select line, given_name, family_name, company, tags, addresses, match_keys"
        " from import_rows where job_id = $1 order by item_id",
        submitted.job_id,
    )
    assert [tuple(row) for row in rows] == [
        (
            2,
            "Zoë",
            "Kovács",
            "Bright, Water",
            ["news", "vip"],
            ["Zoe@Example.com", "zoe@bücher.example.net", None],
            ["zoe@example.com", "zoe@xn--bcher-kva.example.net", None],
        ),
        (3, "Bo", None, None, [], ["bo@example.com", None, None], ["bo@example.com", None, None]),
        (4, None, None, None, [], [None, None, "cy@example.com"], [None, None, "cy@example.com"]),
        (
            8,
            None,
            None,
            None,
            ["news"],
            ["fay@example.com", None, None],
            ["fay@example.com", None, None],
        ),
    ]
    assert submitted[1:] == (4, 2, 3, True, True, ())


async def test_import_rejections_are_stored_with_line_and_reason(pool, import_csv):
    """Each rejected row or cell is stored with its line, its reason and a readable detail."""
    submitted = await import_csv()
    kept = await pool.fetch(
        "select line, reason, detail from import_rejections where job_id = $1"
        " order by line, reason",
        submitted.job_id,
    )
    assert [(row["line"], row["reason"]) for row in kept] == [
        (3, "repeated_in_row"),
        (4, "invalid_address"),
        (5, "invalid_address"),
        (5, "no_address"),
        (6, "too_few_cells"),
    ]
    assert kept[4]["detail"] == 'The row has 2 of the header\'s 7 cells: "Ed,too few".'


async def test_the_job_records_the_request_and_who_claims_permission(pool, import_csv):
    """The job records who claimed permission. Without a claim it records nobody."""
    claimed = await import_csv(tag=" spring ", correlation_id="trace-1")
    unclaimed = await import_csv(permission=False)
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, claimed.job_id)
        other = await jobs.get_job(connection, unclaimed.job_id)
    assert (job.action, job.state, job.fields) == ("import", "planning", (1, 2, 3))
    assert job.params == {"permission": True, "permission_claimed_by": "mara", "tag": "spring"}
    assert (job.requested_by, job.correlation_id, job.selection) == (
        "mara",
        "trace-1",
        {"import": True},
    )
    assert other.params == {"permission": False}
    assert len(job.request_hash) == 64
    assert job.request_hash != other.request_hash


async def test_an_import_is_logged_without_its_content(import_csv):
    """The log line names the job, and quotes nothing from the file."""
    with capture_logs() as lines:
        submitted = await import_csv(correlation_id="trace-1")
    (line,) = [line for line in lines if line["event"] == "job.submitted"]
    assert (line["job"], line["action"], line["correlation_id"]) == (
        submitted.job_id,
        "import",
        "trace-1",
    )
    assert "example.com" not in str(line)


async def test_a_failure_in_the_middle_stores_nothing(pool, import_csv, monkeypatch):
    """A disk error, or any other exception while rows are read, leaves no rows behind."""
    monkeypatch.setattr(file_text, "FIRST_BLOCK_BYTES", 2_000)
    monkeypatch.setattr(file_text, "BLOCK_BYTES", 2_000)

    class Failing(io.BytesIO):
        def read(self, _size=-1):
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(10_000)

    progress_calls = []

    def give_up(*counts):
        progress_calls.append(counts)
        if len(progress_calls) == 3:
            raise KeyError("enough")

    with pytest.raises(InvalidRequest, match="Input/output error"):
        await import_csv(Failing(make_csv(1_000).encode()))
    with pytest.raises(KeyError):
        await import_csv(csv(make_csv(1_000)), progress=give_up)
    assert 0 < progress_calls[-1][1] < 1_000
    assert await count_stored_rows(pool) == (0, 0, 0)


async def test_progress_is_reported_while_the_file_is_read(import_csv, monkeypatch):
    """Bytes, rows and rejections never decrease, and end at the totals of the file."""
    monkeypatch.setattr(file_text, "FIRST_BLOCK_BYTES", 60)
    monkeypatch.setattr(file_text, "BLOCK_BYTES", 60)
    progress_calls = []
    submitted = await import_csv(progress=lambda *counts: progress_calls.append(counts))
    assert len(progress_calls) > 2
    assert all(before <= after for before, after in pairwise(progress_calls))
    assert progress_calls[-1] == (len(CSV_TEXT.encode()), submitted.rows, submitted.rejected_rows)


async def test_a_file_without_a_usable_row_is_stored_as_a_job(pool, import_csv):
    """A file without a usable row is stored as a job too, so that its rejections can be read."""
    empty = await import_csv(csv(HEADER))
    refused = await import_csv(csv(HEADER + "Ann,,,nobody,,,\n"))
    assert (empty.rows, empty.rejected_rows, empty.rejected_cells) == (0, 0, 0)
    assert (refused.rows, refused.rejected_rows, refused.rejected_cells) == (0, 1, 1)
    assert await count_stored_rows(pool) == (2, 0, 2)


@pytest.mark.parametrize("planned", [False, True])
async def test_the_same_key_and_file_give_the_same_job(pool, import_csv, planned):
    """Sending an import again stages nothing and returns the same answer, even after planning."""
    first = await import_csv(idempotency_key="spring")
    if planned:
        async with pool.acquire() as connection:
            assert await plan_job(
                connection, JobKey(DEFAULT_ACCOUNT, first.job_id), chunk_size=2, max_lanes=1
            )
            await connection.execute("delete from import_rows where line < 5")
    before = await count_stored_rows(pool)
    again = await import_csv(idempotency_key="spring", requested_by="someone else")
    assert again == first._replace(created=False)
    assert await count_stored_rows(pool) == before


@pytest.mark.parametrize(
    "change",
    [
        {"file": csv(CSV_TEXT + "Gus,,,gus@example.com,,,\n")},
        {"permission": False},
        {"tag": "other"},
        {"mapping": {"Tags": "ignore"}},
        {"encoding": "cp1252"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_key_reused_for_another_import_is_a_conflict(pool, import_csv, change):
    """Reusing a key with a different import raises a conflict, and stores nothing."""
    first = await import_csv(idempotency_key="spring")
    before = await count_stored_rows(pool)
    with pytest.raises(IdempotencyConflict, match=f"job {first.job_id}.*Nothing was stored"):
        await import_csv(idempotency_key="spring", **change)
    assert await count_stored_rows(pool) == before


async def test_a_key_reused_for_another_action_is_a_conflict(pool, settings, import_csv):
    """A key belongs to the account, so another action cannot reuse it."""
    request = {"action": "opt_out", "selection": {"all": True}, "requested_by": "mara"}
    await submit(pool, settings, parse_request({**request, "idempotency_key": "spring"}))
    with pytest.raises(IdempotencyConflict):
        await import_csv(idempotency_key="spring")


async def test_two_concurrent_requests_with_one_key_make_one_job(pool, import_csv):
    """The second request waits for the first to commit, and returns its job."""
    text = make_csv(3_000)
    submissions = await asyncio.gather(
        *(import_csv(csv(text), idempotency_key="k") for _ in range(2))
    )
    assert sorted(submitted.created for submitted in submissions) == [False, True]
    assert len({submitted.job_id for submitted in submissions}) == 1
    assert {submitted.rows for submitted in submissions} == {3_000}
    assert await count_stored_rows(pool) == (1, 3_000, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"account": "nobody"}, NotFound, "There are: default"),
        ({"file": csv("Name\nAnn\n")}, InvalidRequest, "no column of email addresses"),
        ({"file": csv("")}, InvalidRequest, "empty"),
        ({"tag": "  "}, InvalidRequest, "tag"),
        ({"tag": "t" * 201}, InvalidRequest, "tag"),
        ({"tag": "a\x00b"}, InvalidRequest, "NUL"),
        ({"requested_by": ""}, InvalidRequest, "requested_by"),
        ({"encoding": "klingon"}, InvalidRequest, "not supported"),
        ({"file": "/nowhere/people.csv"}, InvalidRequest, "cannot be read"),
    ],
)
async def test_an_invalid_import_stores_nothing(pool, import_csv, options, error, message):
    """Each invalid import raises an error that says why, and leaves nothing behind."""
    with pytest.raises(error, match=message):
        await import_csv(**options)
    assert await count_stored_rows(pool) == (0, 0, 0)


async def test_without_redis_the_import_is_stored(pool, settings, import_csv):
    """If the job cannot be enqueued, it is stored all the same; the sweeper will find it."""
    without_redis = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    submitted = await submit_import(
        pool, without_redis, file=csv(), permission=False, requested_by="mara"
    )
    assert (submitted.created, submitted.enqueued) == (True, False)
    assert (await count_stored_rows(pool))[0] == 1


async def test_rejected_cells_and_rows_are_counted_apart(pool, import_csv):
    """The counts of the file leave out rows that workers reject later, and count cells apart from
    rows.
    """
    submitted = await import_csv()
    async with pool.acquire() as connection:
        await connection.execute(
            "insert into import_rejections values ($1, $2, 2, 'internal_error', 'x')",
            DEFAULT_ACCOUNT,
            submitted.job_id,
        )
        assert await imports.read_staged_file(
            connection, JobKey(DEFAULT_ACCOUNT, submitted.job_id)
        ) == (
            4,
            2,
            3,
        )
