"""Import the contacts of all accounts before the first fault."""

from collections.abc import Callable, Iterator

from producers.accounts import create_account
from tests.chaos.contact_lists import ContactList
from tests.chaos.fault_plan import Kind, Plan, plan_faults
from tests.chaos.faults import work
from tests.chaos.fixtures import SampleContact, SampleContacts, read_sample_contacts
from tests.chaos.fleet import READY_SECONDS, Fleet
from tests.chaos.observer import Observer
from tests.chaos.python_client import PythonClient
from tests.chaos.traffic_plan import ACCOUNTS
from tests.kit.waiting import wait_for_async

Show = Callable[[str, float, float], None]
"""Shows the current step, its progress and its end value."""

CANARIES = "canary"
"""The account whose contacts have the small jobs that show a recovery."""

_CANARIES = 200
_FEWEST, _MOST, _PER_SECOND = 1_500, 12_000, 100
"""The number of contacts of each producer's account, by the length of the run."""

_PREPARED_SECONDS = 300.0
_WORK = (Kind.DECISION_RAISES, Kind.WRITE_FAILS, Kind.LOOP_BLOCKED, Kind.WORKER_POISONED)


async def prepare(
    plan: Plan, observer: Observer, producers: PythonClient, fleet: Fleet, show: Show
) -> dict[str, SampleContacts]:
    """Let the fleet import contacts into every account; return the contacts."""
    await observer.value("make_refusals")
    fleet.start()
    sizes = dict.fromkeys(ACCOUNTS, int(min(_MOST, max(_FEWEST, _PER_SECOND * plan.seconds))))
    kinds = sum(fault.kind in _WORK for fault in plan_faults(plan))
    sizes |= {work.ACCOUNT: max(1, kinds) * work.GROUP, CANARIES: _CANARIES}
    jobs = []
    for account, size in sizes.items():
        await create_account(observer.pool, account)
        halves = (
            ContactList(account, 0, 0, size // 2),
            ContactList(account, 0, size // 2, size // 2),
        )
        for number, contacts in enumerate(halves):
            jobs.append(await producers.import_list(contacts, permission=number == 1, tag=None))

    async def imported() -> bool:
        left = len(await observer.rows("unended_jobs"))
        show("importing contacts", len(jobs) - left, len(jobs))
        return not left and await fleet.is_ready()

    if not await wait_for_async(imported, READY_SECONDS + _PREPARED_SECONDS):
        raise RuntimeError("The contacts were not imported in time")
    return {account: await read_sample_contacts(observer, account) for account in sizes}


def iter_groups(account: SampleContacts) -> Iterator[list[SampleContact]]:
    """Yield the contacts in groups, one for each fault that needs its own."""
    for first in range(0, len(account.contacts), work.GROUP):
        yield account.contacts[first : first + work.GROUP]
