"""Check what the service acknowledged and disclosed over HTTP."""

from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.observer import Observer

KEPT_ADDRESSED = "every opt-out acknowledged over HTTP is in force and has its result"
NOT_REOPENED = "no address becomes marketable after its opt-out was acknowledged over HTTP"
NOT_ANOTHERS = "no HTTP response contains jobs or contacts of another account"


async def check_web(observer: Observer, records: Records) -> list[Violation]:
    """Return every violation that the database shows."""
    return [*await _opt_outs(observer, records), *await _find_leaks(observer, records)]


async def _opt_outs(observer: Observer, records: Records) -> list[Violation]:
    columns = list(zip(*records.opt_outs_by_address, strict=True)) or [(), (), (), ()]
    accounts, keys, match_keys, moments = (list(column) for column in columns)
    rows = await observer.rows(
        "missing_opt_outs_by_address",
        accounts=accounts,
        keys=keys,
        match_keys=match_keys,
        moments=moments,
    )
    return [
        Violation(NOT_REOPENED, f"address {row['address_id']} by job {row['reopened_by']}")
        if row["reopened_by"] is not None
        else Violation(
            KEPT_ADDRESSED,
            f"{row['key']!r}: address {row['address_id']} is {row['status']},"
            f" {'a' if row['by_job'] else 'no'} result",
        )
        for row in rows
    ]


async def _find_leaks(observer: Observer, records: Records) -> list[Violation]:
    rows = await observer.rows(
        "leaked_ids",
        job_accounts=[disclosed.account for disclosed in records.disclosed_jobs],
        jobs=[disclosed.id for disclosed in records.disclosed_jobs],
        contact_accounts=[disclosed.account for disclosed in records.disclosed_contacts],
        contacts=[disclosed.id for disclosed in records.disclosed_contacts],
    )
    return [
        Violation(NOT_ANOTHERS, f"{row['account']} received {row['what']} {row['id']}")
        for row in rows
    ]
