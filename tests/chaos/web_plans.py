"""Plans over HTTP, read and then confirmed with the counts seen."""

from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.controls import Controls
from tests.chaos.observer import Observer
from tests.chaos.python_client import BulkRequest
from tests.chaos.web_producers import WebProducers

UNTOUCHED = "a planned job changes nothing before its confirmation"

_MAX_CONFIRMATIONS = 3
"""How often a plan with drift is confirmed again before it is cancelled."""


async def run_plan(
    entry_point: WebProducers,
    controls: Controls,
    observer: Observer,
    records: Records,
    bulk_request: BulkRequest,
) -> int:
    """Plan a job, then apply or cancel it; return its id."""
    job_id = await entry_point.plan(bulk_request)
    expected = await entry_point.planned(job_id)
    if expected is not None and await observer.value("result_rows", job_id=job_id):
        records.violations.append(Violation(UNTOUCHED, f"job {job_id}"))
    for _ in range(_MAX_CONFIRMATIONS):
        if expected is None:
            return job_id
        await entry_point.apply(job_id, expected)
        expected = await entry_point.planned(job_id)
    await controls.cancel(entry_point, job_id)
    return job_id
