"""Check that every expected completion webhook was delivered, and is correct."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from runtime.settings import Settings
from runtime.signing import signature, webhook_secret
from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.observer import Observer
from tests.kit.http_receiver import CLOSE, HANG, ReceivedRequest, Receiver, answer

DELIVERED = "every completion webhook was delivered at least once"
RIGHT = "every completion webhook is signed and has the state and counts of its job"

_ACCEPTED = answer(204)
_FAILURES = (answer(500), HANG, CLOSE)
_COUNTS = ("applied", "unchanged", "rejected", "empty", "propagated")


class FlakyReceiver:
    """A reply function for the receiver. The very first delivery fails, as does the first one of
    about every other job, until `is_reliable` is set.
    """

    def __init__(self, seed: int) -> None:
        self._draw = Random(f"receiver {seed}")
        self._is_first = True
        self.is_reliable = False

    def __call__(self, request: ReceivedRequest) -> bytes:
        """Fail the first delivery and some later ones; each further attempt is
        likelier to succeed.
        """
        if self._is_first:
            self._is_first = False
            return _FAILURES[0]
        attempt = int(request.headers["sluice-delivery"].rpartition("-")[2])
        if self.is_reliable or self._draw.random() < attempt / 2:
            return _ACCEPTED
        return self._draw.choice(_FAILURES)


async def check_webhooks(
    observer: Observer, settings: Settings, receiver: Receiver, records: Records
) -> list[Violation]:
    """Compare the received webhooks with the final jobs."""
    jobs = {row["id"]: dict(row) for row in await observer.rows("job_ends")}
    found = list(_wrong(receiver.requests, jobs, settings))
    accepted = {
        _read_body(request)["job"] for request in receiver.requests if request.reply == _ACCEPTED
    }
    missing = [job for job in records.jobs if job.expects_webhook and job.job_id not in accepted]
    return found + [Violation(DELIVERED, f"job {job.job_id}") for job in missing]


def _wrong(
    requests: list[ReceivedRequest], jobs: dict[int, dict[str, Any]], settings: Settings
) -> Iterator[Violation]:
    for each in requests:
        body = _read_body(each)
        job = jobs.get(body["job"])
        if job is None:
            yield Violation(RIGHT, f"there is no job {body['job']}")
            continue
        secret = webhook_secret(settings, job["account_id"])
        signed = signature(secret, each.headers["sluice-timestamp"], each.body)
        if each.headers["sluice-signature"] != signed:
            yield Violation(RIGHT, f"job {job['id']}: wrong signature")
        if (body["account"], body["state"]) != (job["account"], job["state"]):
            yield Violation(RIGHT, f"job {job['id']} is {job['state']}, not {body['state']}")
        if any(body["counts"][name] != job[name] for name in _COUNTS):
            yield Violation(RIGHT, f"job {job['id']}: the webhook has {body['counts']}")


def _read_body(request: ReceivedRequest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body)
    return body
