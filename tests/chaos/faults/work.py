"""Faults of the work itself: contacts that raise, block, kill, or cannot be written."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.requests import Selection
from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.chaos.fixtures import SampleContact
from tests.chaos.python_client import FAULT, BulkRequest
from tests.kit.waiting import wait_for_async

ACCOUNT = "faults"
GROUP = 40
"""The number of contacts for one fault."""

_FAULTY = 2
"""The number of them that are faulty."""

_MARKED = "system"
"""The status that makes the action `stumble` fail."""

_PREPARED_SECONDS = 60.0
_UNBLOCKED_SECONDS = 30.0


async def raise_in_decision(context: FaultContext, fault: Fault) -> str:
    """Submit a job in which a few contacts make `decide` raise each time."""
    del fault
    contacts = await _submit_marked(context)
    context.producers.records.faulty.update(_ids(contacts[:_FAULTY]))
    await _stumble(context, contacts, "raise", context.tokens)
    return f"{_FAULTY} contacts raise"


async def refuse_writes(context: FaultContext, fault: Fault) -> str:
    """Submit a job in which a few contacts cannot be written for some seconds."""
    contacts = next(context.groups)
    addresses = [
        address for contact in contacts[:_FAULTY] for address in contact.addresses.values()
    ]
    context.producers.records.faulty.update(_ids(contacts[:_FAULTY]))
    await context.observer.value("refuse_writes", addresses=addresses)
    try:
        await context.producers.submit(
            BulkRequest(
                ACCOUNT,
                "opt_out",
                Selection(contacts=_ids(contacts)),
                ("email1", "email2"),
                requested_by=FAULT,
            )
        )
        await asyncio.sleep(fault.duration)
    finally:
        await context.observer.value("allow_writes", addresses=addresses)
    return f"{len(addresses)} addresses refused for {fault.duration:.1f} s"


async def block_loop(context: FaultContext, fault: Fault) -> str:
    """Block a worker's event loop once, until the watchdog ends the worker."""
    contacts = await _submit_marked(context)
    with _tokens(context.tokens, fault, 1) as folder:
        await _stumble(context, contacts, "block", folder)
        await _wait_for_hit(folder)
    await wait_for_async(lambda: _none_blocked(folder), _UNBLOCKED_SECONDS)
    return "blocked a loop"


async def poison_worker(context: FaultContext, fault: Fault) -> str:
    """Submit a job whose decision kills its worker twice and succeeds the third time."""
    contacts = await _submit_marked(context)
    with _tokens(context.tokens, fault, 2) as folder:
        await _stumble(context, contacts, "kill", folder)
        await _wait_for_hit(folder)
        await wait_for_async(lambda: _are_all_taken(folder), fault.duration)
    killed = len(list(folder.glob("killed.*")))
    return f"killed {killed} workers by their own work"


async def _submit_marked(context: FaultContext) -> list[SampleContact]:
    """Return contacts of which the first have the status that makes `stumble` fail."""
    contacts = next(context.groups)
    job_id = await context.producers.submit(
        BulkRequest(
            ACCOUNT,
            "mark",
            Selection(contacts=_ids(contacts[:_FAULTY])),
            params={"status": _MARKED},
            requested_by=FAULT,
        )
    )

    async def marked() -> bool:
        return bool(await context.observer.value("state_of", job_id=job_id) == "completed")

    await wait_for_async(marked, _PREPARED_SECONDS)
    return contacts


async def _stumble(
    context: FaultContext, contacts: list[SampleContact], how: str, tokens: Path
) -> None:
    await context.producers.submit(
        BulkRequest(
            ACCOUNT,
            "stumble",
            Selection(contacts=_ids(contacts)),
            params={"over": _MARKED, "how": how, "tokens": str(tokens)},
            requested_by=FAULT,
        )
    )


def _ids(contacts: list[SampleContact]) -> tuple[int, ...]:
    return tuple(contact.contact_id for contact in contacts)


@contextmanager
def _tokens(parent: Path, fault: Fault, count: int) -> Iterator[Path]:
    """Make a folder with `count` tokens, and remove the unused ones at the end."""
    folder = parent / f"{fault.kind}.{fault.at}"
    folder.mkdir()
    for number in range(count):
        (folder / f"token.{number}").touch()
    yield folder
    for token in folder.glob("token.*"):
        token.unlink(missing_ok=True)


async def _wait_for_hit(folder: Path) -> None:
    """Wait for the first worker that is hit; other faults may delay it."""

    def is_hit() -> bool:
        return bool(list(folder.glob("killed.*")) or list(folder.glob("blocked.*")))

    if not await wait_for_async(is_hit, _PREPARED_SECONDS):
        raise RuntimeError("no worker was hit by the job")


def _are_all_taken(folder: Path) -> bool:
    return not list(folder.glob("token.*"))


def _none_blocked(folder: Path) -> bool:
    """Return whether each blocked worker goes on or has ended."""
    return all(
        (folder / f"unblocked{note.suffix}").exists()
        or not Path(f"/proc/{note.suffix[1:]}").exists()
        for note in folder.glob("blocked.*")
    )
