"""A storm from its beginning to the last check."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from db.migrate import migrate
from db.pool import open_pool
from runtime.settings import Settings
from tests.chaos import checks
from tests.chaos.contact_lists import LIMIT
from tests.chaos.fault_registry import ACTS
from tests.chaos.faults import Stage, work
from tests.chaos.fixtures import People
from tests.chaos.fleet import Fleet
from tests.chaos.log_checks import read_ends, read_logs
from tests.chaos.notices import Moody, check_notices
from tests.chaos.observer import APPLICATION, Observer
from tests.chaos.preparing import CANARIES, Show, groups_of, prepare
from tests.chaos.producers import Producers
from tests.chaos.records import Records, Violation
from tests.chaos.recovery import Recoveries
from tests.chaos.report import Outcome
from tests.chaos.rest import check_rest
from tests.chaos.schedule import LANES, Fault, Plan, faults_of_plan
from tests.chaos.storm_actions import copy_code_for_storm, know_storm_actions
from tests.chaos.traffic import TrafficAtWork
from tests.chaos.traffic_plan import traffic_of
from tests.chaos.waiting import within
from tests.chaos.web_doors import WebDoors, open_doors
from tests.chaos.web_recovery import WebRecoveries
from tests.kit.http_receiver import Receiver, listening
from tests.kit.redis_proxy import RedisProxy
from tests.kit.servers import StormServers, let_processes_in

_FREE = nullcontext()
_LONGEST_SECONDS = 1_800.0
"""So long there is traffic where the faults take the time that they need."""

TRUTH = "truth.json"
"""What Postgres knows when the storm is over, kept beside the logs: jobs, chunks and acts."""

_NAMESPACE = "storm"
_SIGNING_KEYS = "secrets-of-a-storm-are-nobodys-business"
_CONNECTIONS = 12
_THREADS = 64
SETTLE_SECONDS = 180.0


class _Cast(NamedTuple):
    """All who take part."""

    settings: Settings
    stage: Stage
    records: Records
    recoveries: Recoveries
    people: dict[str, People]
    web: dict[str, WebDoors]
    receiver: Receiver
    moods: Moody


async def run_storm(plan: Plan, servers: StormServers, folder: Path, show: Show) -> Outcome:
    """Prepare, rage, settle and check. All processes but the servers have ended afterwards."""
    know_storm_actions()
    # Producers wait in threads for a Redis that does not answer; faults have to end in time.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    await migrate(servers.database_url)
    processes_url = await let_processes_in(servers.database_url)
    with RedisProxy(servers.redis_socket) as proxy:
        settings = Settings(
            database_url=processes_url,
            redis_url=proxy.url,
            queue_namespace=_NAMESPACE,
            shared_address_limit=LIMIT,
            signing_keys=SecretStr(_SIGNING_KEYS),
            private_notices=True,
        )
        moods = Moody(plan.seed)
        async with (
            await open_pool(
                servers.database_url, size=_CONNECTIONS, application=APPLICATION
            ) as seeing,
            await open_pool(servers.database_url, size=_CONNECTIONS, application="storm") as asking,
            listening(moods) as receiver,
            _fleet(settings, folder) as fleet,
        ):
            observer, records = Observer(seeing), Records()
            producers = Producers(asking, settings, records)
            people = await prepare(plan, observer, producers, fleet, show)
            stage = Stage(
                servers, proxy, fleet, observer, producers,
                groups_of(people[work.ACCOUNT]), folder / "tokens", _NAMESPACE,
            )  # fmt: skip
            recoveries = Recoveries(
                observer, producers, people[CANARIES], WebRecoveries(fleet.web_url)
            )
            async with open_doors(fleet.web_url, settings, observer, records) as web:
                cast = _Cast(settings, stage, records, recoveries, people, web, receiver, moods)
                done = await _rage(plan, cast, show)
                records.seen += await _settle(cast, show)
                return await _outcome(plan, cast, done, folder)


@asynccontextmanager
async def _fleet(settings: Settings, folder: Path) -> AsyncIterator[Fleet]:
    """Worker groups on a copy of the code; none of them is left afterwards."""
    (folder / "tokens").mkdir()
    code = copy_code_for_storm(folder / "code")
    fleet = Fleet(settings, code, folder / "logs", folder / "tokens")
    try:
        yield fleet
    finally:
        fleet.kill()


async def _rage(plan: Plan, cast: _Cast, show: Show) -> list[tuple[Fault, str]]:
    """Faults and traffic; afterwards nothing is asked any more."""
    began = asyncio.get_running_loop().time()
    faults = faults_of_plan(plan)
    done: list[tuple[Fault, str]] = []
    traffic = TrafficAtWork(
        traffic_of(plan.seed, _LONGEST_SECONDS if plan.apart else plan.seconds),
        cast.stage.producers,
        cast.web,
        cast.stage.observer,
        people=cast.people,
        told_at=cast.receiver.url,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run(began))
        if plan.apart:
            for fault in faults:
                show(f"{len(done)} of {len(faults)} faults: {fault.kind}", len(done), len(faults))
                await _befall(cast, fault, done)
        else:
            _at_their_times(group, cast, faults, began, done)
            ends = began + plan.seconds
            while (now := asyncio.get_running_loop().time()) < ends:
                show(f"{len(done)} of {len(faults)} faults", now - began, plan.seconds)
                await asyncio.sleep(0.2)
        traffic.stop()
        show("waiting for the last answers", 0, 0)
    return done


def _at_their_times(
    group: asyncio.TaskGroup,
    cast: _Cast,
    faults: Sequence[Fault],
    began: float,
    done: list[tuple[Fault, str]],
) -> None:
    """Each fault at its time, and not while another one of its lane lasts longer than planned."""
    lanes = [asyncio.Lock() for _ in LANES]

    async def befall(fault: Fault) -> None:
        await asyncio.sleep(began + fault.at - asyncio.get_running_loop().time())
        lane = next(n for n, kinds in enumerate(LANES) if fault.kind in kinds)
        await _befall(cast, fault, done, lanes[lane])

    for fault in faults:
        group.create_task(befall(fault))


async def _befall(
    cast: _Cast,
    fault: Fault,
    done: list[tuple[Fault, str]],
    lane: AbstractAsyncContextManager[Any] = _FREE,
) -> None:
    try:
        async with lane:
            did = await ACTS[fault.kind](cast.stage, fault)
        done.append((fault, did))
        await cast.recoveries.watch(fault.kind, fault.draw)
    except Exception as error:  # noqa: BLE001 - the storm goes on; that it could not be is shown
        text = f"{fault.kind}: {type(error).__name__}: {str(error)[:200]}"
        cast.records.seen.append(Violation(checks.DONE, text))


async def _settle(cast: _Cast, show: Show) -> list[Violation]:
    """Wait until every job has ended, then end the fleet; gives what was wrong with that."""
    producers, observer = cast.stage.producers, cast.stage.observer
    cast.moods.calm = True
    unrest = await _rest(cast, show)
    for row in await observer.rows("resting"):
        if row["state"] == "paused":
            await producers.resume(row["id"])

    async def ended() -> bool:
        await _cancel_planned(cast)
        left = len(await observer.rows("unended_jobs"))
        untold = len(await observer.rows("untold"))
        show(f"settling: {left} jobs have not ended, {untold} were not told of", 0, 0)
        return not (left or untold)

    # Jobs that have not ended then are found by their check.
    await within(SETTLE_SECONDS, ended)
    show("ending the workers", 0, 0)
    return [*unrest, *await cast.stage.fleet.stop()]


async def _rest(cast: _Cast, show: Show) -> list[Violation]:
    """Stop every job in the middle and look whether the fleet rests; gives what was wrong."""
    producers, observer, fleet = cast.stage.producers, cast.stage.observer, cast.stage.fleet

    async def stopped() -> bool:
        left = await observer.rows("under_way")
        show(f"stopping: {len(left)} jobs are under way", 0, 0)
        for row in left:
            await producers.pause(row["id"])
        return not left and await fleet.ready()

    if not await within(SETTLE_SECONDS, stopped):
        # Jobs that do not stop, and a fleet that does not start, have checks of their own.
        return []
    show("looking whether the fleet rests", 0, 0)
    return await check_rest(observer, fleet.workers())


async def _cancel_planned(cast: _Cast) -> None:
    """A plan whose counts drifted after somebody had said yes to them waits for ever."""
    for row in await cast.stage.observer.rows("resting"):
        if row["state"] == "planned":
            cast.records.to_be_cancelled.add(row["id"])
            await cast.stage.producers.cancel(row["id"])


async def _outcome(plan: Plan, cast: _Cast, done: list[tuple[Fault, str]], folder: Path) -> Outcome:
    observer, records, fleet = cast.stage.observer, cast.records, cast.stage.fleet
    names, found = await checks.check_database(observer, records)
    (folder / "logs" / TRUTH).write_text(await observer.value("truth"))
    found += [
        *await check_notices(observer, cast.settings, cast.receiver, records),
        *records.seen,
        *fleet.seen,
        *read_ends(fleet.ended),
        *read_logs(folder / "logs"),
        *checks.late(cast.recoveries.made, plan.patience),
    ]
    totals: Any = await observer.value("work_done")
    return Outcome(
        seed=plan.seed,
        seconds=plan.seconds,
        done=done,
        recoveries=cast.recoveries.made,
        checks=checks.tally(names, found),
        work=dict(totals)
        | {
            "opt_outs": len(records.opt_outs),
            "resubmitted": records.resubmitted,
            "answered_twice": records.answered_twice,
            "paused": records.paused,
            "cancelled": records.cancelled,
            "groups_ended": len(fleet.ended),
            "notices": len(cast.receiver.posted),
        },
        requests=dict(sorted(records.requests.items())),
    )
