"""Whether everybody who asked for it was told how a job ended, and told rightly."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from runtime.settings import Settings
from runtime.signing import signature, webhook_secret
from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.observer import Observer
from tests.kit.http_receiver import CLOSE, HANG, ReceivedRequest, Receiver, answer

TOLD = "every job whose end was to be told was told of, at least once"
RIGHT = "every completion notice is signed, and tells how its job ended"

_TAKEN = answer(204)
_FAILURES = (answer(500), HANG, CLOSE)
_COUNTS = ("applied", "unchanged", "rejected", "empty", "propagated")


class FlakyReceiver:
    """How the storm's receiver answers: the very first attempt fails, and so does the first of
    every other job in some way, until the storm is over.
    """

    def __init__(self, seed: int) -> None:
        self._draw = Random(f"receiver {seed}")
        self._is_first = True
        self.is_reliable = False

    def __call__(self, posted: ReceivedRequest) -> bytes:
        """Fail the first delivery and some later ones; the more attempts, the likelier a
        success.
        """
        if self._is_first:
            self._is_first = False
            return _FAILURES[0]
        attempt = int(posted.headers["sluice-delivery"].rpartition("-")[2])
        if self.is_reliable or self._draw.random() < attempt / 2:
            return _TAKEN
        return self._draw.choice(_FAILURES)


async def check_notices(
    observer: Observer, settings: Settings, receiver: Receiver, records: Records
) -> list[Violation]:
    """Compare what came with the jobs as they ended."""
    jobs = {row["id"]: dict(row) for row in await observer.rows("job_ends")}
    found = list(_wrong(receiver.requests, jobs, settings))
    taken = {_told(posted)["job"] for posted in receiver.requests if posted.given == _TAKEN}
    untold = [job for job in records.jobs if job.expects_webhook and job.job_id not in taken]
    return found + [Violation(TOLD, f"job {job.job_id}") for job in untold]


def _wrong(
    posted: list[ReceivedRequest], jobs: dict[int, dict[str, Any]], settings: Settings
) -> Iterator[Violation]:
    for each in posted:
        told = _told(each)
        job = jobs.get(told["job"])
        if job is None:
            yield Violation(RIGHT, f"there is no job {told['job']}")
            continue
        secret = webhook_secret(settings, job["account_id"])
        signed = signature(secret, each.headers["sluice-timestamp"], each.body)
        if each.headers["sluice-signature"] != signed:
            yield Violation(RIGHT, f"job {job['id']}: signed wrongly")
        if (told["account"], told["state"]) != (job["account"], job["state"]):
            yield Violation(RIGHT, f"job {job['id']} is {job['state']}: told {told['state']}")
        if any(told["counts"][name] != job[name] for name in _COUNTS):
            yield Violation(RIGHT, f"job {job['id']}: told {told['counts']}")


def _told(posted: ReceivedRequest) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(posted.body)
    return told
