"""Recipients whose opt-outs the tests submit over HTTP, and checks of the responses."""

import asyncpg
import httpx

from tests.kit.factories import fill, make_account, statuses_of

ANN, FAMILY, BOB = "ann@x.example", "family@x.example", "bob@x.example"
OPEN = ("confirmed", False)

TAILS = (
    *("/", ".", ")", ">", ",", "%20", '"', "%22", "'", ";", ":", "!", "*", "_", "-", "]", "%3E"),
    *(
        "//",
        "/.",
        ").",
        "%00",
        "%0D%0A",
        "%FF",
        "%20and%20more",
        "/x/../y",
        "&amp;x=1",
        "%E2%80%8B",
    ),
)
"""Text that mail programs and people append to a link."""


async def make_couples(pool: asyncpg.Pool) -> dict[str, int]:
    """Create Ann and Bob, who share an address, in two accounts; return the account ids by name."""
    default = await pool.fetchval("select id from accounts where name = 'default'")
    accounts = {"default": default, "other": await make_account(pool, "other")}
    for place, account_id in enumerate(accounts.values()):
        ann, bob = 10 * place + 1, 10 * place + 2
        await fill(
            pool,
            account_id,
            {ann: {1: ANN, 2: FAMILY}, bob: {1: BOB, 2: FAMILY}},
            dict.fromkeys((ANN, FAMILY, BOB), OPEN),
        )
    return accounts


async def read_everything(pool: asyncpg.Pool) -> tuple[int, list[dict[str, tuple[str, bool]]]]:
    """Return the number of jobs, and the status of every address of each account."""
    accounts = [row["id"] for row in await pool.fetch("select id from accounts order by id")]
    jobs = await pool.fetchval("select count(*) from jobs")
    return jobs, [await statuses_of(pool, account_id) for account_id in accounts]


def problem_detail(answer: httpx.Response, status: int, slug: str) -> str:
    """Return the detail of a response, which must be this problem."""
    actual = (answer.status_code, answer.headers["content-type"], answer.json().get("type"))
    assert actual == (status, "application/problem+json", f"urn:sluice:problem:{slug}"), answer.text
    detail: str = answer.json()["detail"]
    return detail
