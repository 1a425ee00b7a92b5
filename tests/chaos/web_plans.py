"""Plans over HTTP: looked at, and then said yes to, with the counts that were seen."""

from tests.chaos.controls import Controls
from tests.chaos.observer import Observer
from tests.chaos.producers import Bulk
from tests.chaos.records import Records, Violation
from tests.chaos.web_producers import WebProducers

UNTOUCHED = "a planned job changes nothing before it is confirmed"

_MOST_TIMES = 3
"""So often a plan is said yes to whose counts drift; then it is cancelled."""


async def plan_and_apply(
    door: WebProducers, controls: Controls, observer: Observer, records: Records, wanted: Bulk
) -> int:
    """Have a job planned, and run or cancelled; gives its id."""
    job_id = await door.plan(wanted)
    expected = await door.planned(job_id)
    if expected is not None and await observer.value("result_rows", job_id=job_id):
        records.seen.append(Violation(UNTOUCHED, f"job {job_id}"))
    for _ in range(_MOST_TIMES):
        if expected is None:
            return job_id
        await door.apply(job_id, expected)
        expected = await door.planned(job_id)
    await controls.cancel(door, job_id)
    return job_id
