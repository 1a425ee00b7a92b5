"""A chaos run, from its preparation to the last check."""

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
from tests.chaos.account_clients import AccountClients, open_account_clients
from tests.chaos.acknowledgements import Records, Violation
from tests.chaos.chaos_actions import copy_code_for_chaos, register_chaos_actions
from tests.chaos.contact_lists import LIMIT
from tests.chaos.fault_plan import FAULT_GROUPS, Fault, Plan, plan_faults
from tests.chaos.fault_registry import FAULTS_BY_KIND
from tests.chaos.faults import FaultContext, work
from tests.chaos.fixtures import SampleContacts
from tests.chaos.fleet import Fleet
from tests.chaos.idle_checks import check_idle
from tests.chaos.log_checks import read_ends, read_logs
from tests.chaos.observer import APPLICATION, Observer
from tests.chaos.python_client import PythonClient
from tests.chaos.recovery import RecoveryWatcher
from tests.chaos.report import ChaosReport
from tests.chaos.setup import CANARIES, Show, iter_groups, prepare
from tests.chaos.traffic_plan import plan_traffic
from tests.chaos.traffic_runner import TrafficRunner
from tests.chaos.web_recovery import WebRecoveryWatcher
from tests.chaos.webhook_checks import FlakyReceiver, check_webhooks
from tests.kit.http_receiver import Receiver, run_receiver
from tests.kit.redis_proxy import RedisProxy
from tests.kit.servers import ChaosServers, grant_process_role
from tests.kit.waiting import wait_for_async

_NO_LOCK = nullcontext()
_MAX_TRAFFIC_SECONDS = 1_800.0
"""How long traffic is planned for if faults are injected one by one."""

DATABASE_FACTS = "database.json"
"""The file with what Postgres holds after the run, kept with the logs: jobs, chunks, activity."""

_NAMESPACE = "chaos"
_SIGNING_KEYS = "signing-key-of-a-chaos-run-0123456789"
_CONNECTIONS = 12
_THREADS = 64
FINISH_JOBS_SECONDS = 180.0


class _ChaosRun(NamedTuple):
    """All parts of a chaos run."""

    settings: Settings
    context: FaultContext
    records: Records
    recoveries: RecoveryWatcher
    contacts: dict[str, SampleContacts]
    web: dict[str, AccountClients]
    receiver: Receiver
    receiver_replies: FlakyReceiver


async def run_chaos(plan: Plan, servers: ChaosServers, folder: Path, show: Show) -> ChaosReport:
    """Prepare, inject faults, finish all jobs and check. End all processes except the servers."""
    register_chaos_actions()
    # Producers wait in threads for a Redis that does not answer. Faults need free threads to end.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    await migrate(servers.database_url)
    processes_url = await grant_process_role(servers.database_url)
    with RedisProxy(servers.redis_socket) as proxy:
        settings = Settings(
            database_url=processes_url,
            redis_url=proxy.url,
            queue_namespace=_NAMESPACE,
            role_address_limit=LIMIT,
            signing_keys=SecretStr(_SIGNING_KEYS),
            allow_private_webhooks=True,
        )
        receiver_replies = FlakyReceiver(plan.seed)
        async with (
            await open_pool(
                servers.database_url, size=_CONNECTIONS, application=APPLICATION
            ) as observer_pool,
            await open_pool(
                servers.database_url, size=_CONNECTIONS, application="chaos"
            ) as producer_pool,
            run_receiver(receiver_replies) as receiver,
            _fleet(settings, folder) as fleet,
        ):
            observer, records = Observer(observer_pool), Records()
            producers = PythonClient(producer_pool, settings, records)
            contacts = await prepare(plan, observer, producers, fleet, show)
            context = FaultContext(
                servers, proxy, fleet, observer, producers,
                iter_groups(contacts[work.ACCOUNT]), folder / "tokens", _NAMESPACE,
            )  # fmt: skip
            recoveries = RecoveryWatcher(
                observer, producers, contacts[CANARIES], WebRecoveryWatcher(fleet.web_url)
            )
            async with open_account_clients(fleet.web_url, settings, observer, records) as web:
                run = _ChaosRun(
                    settings,
                    context,
                    records,
                    recoveries,
                    contacts,
                    web,
                    receiver,
                    receiver_replies,
                )
                done = await _inject_faults(plan, run, show)
                records.violations += await _finish_jobs(run, show)
                return await _collect_report(plan, run, done, folder)


@asynccontextmanager
async def _fleet(settings: Settings, folder: Path) -> AsyncIterator[Fleet]:
    """Run worker groups on a copy of the code, and kill them at the end."""
    (folder / "tokens").mkdir()
    code = copy_code_for_chaos(folder / "code")
    fleet = Fleet(settings, code, folder / "logs", folder / "tokens")
    try:
        yield fleet
    finally:
        fleet.kill()


async def _inject_faults(plan: Plan, run: _ChaosRun, show: Show) -> list[tuple[Fault, str]]:
    """Inject the faults during the traffic, and wait for the last answers."""
    began = asyncio.get_running_loop().time()
    faults = plan_faults(plan)
    done: list[tuple[Fault, str]] = []
    traffic = TrafficRunner(
        plan_traffic(plan.seed, _MAX_TRAFFIC_SECONDS if plan.is_one_by_one else plan.seconds),
        run.context.producers,
        run.web,
        run.context.observer,
        contacts=run.contacts,
        completion_url=run.receiver.url,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run(began))
        if plan.is_one_by_one:
            for fault in faults:
                show(f"{len(done)} of {len(faults)} faults: {fault.kind}", len(done), len(faults))
                await _inject_fault(run, fault, done)
        else:
            _schedule_faults(group, run, faults, began, done)
            ends = began + plan.seconds
            while (now := asyncio.get_running_loop().time()) < ends:
                show(f"{len(done)} of {len(faults)} faults", now - began, plan.seconds)
                await asyncio.sleep(0.2)
        traffic.stop()
        show("waiting for the last answers", 0, 0)
    return done


def _schedule_faults(
    group: asyncio.TaskGroup,
    run: _ChaosRun,
    faults: Sequence[Fault],
    began: float,
    done: list[tuple[Fault, str]],
) -> None:
    """Inject each fault at its time, after the previous one of its group has ended."""
    lanes = [asyncio.Lock() for _ in FAULT_GROUPS]

    async def inject(fault: Fault) -> None:
        await asyncio.sleep(began + fault.at - asyncio.get_running_loop().time())
        lane = next(n for n, kinds in enumerate(FAULT_GROUPS) if fault.kind in kinds)
        await _inject_fault(run, fault, done, lanes[lane])

    for fault in faults:
        group.create_task(inject(fault))


async def _inject_fault(
    run: _ChaosRun,
    fault: Fault,
    done: list[tuple[Fault, str]],
    lane: AbstractAsyncContextManager[Any] = _NO_LOCK,
) -> None:
    try:
        async with lane:
            did = await FAULTS_BY_KIND[fault.kind](run.context, fault)
        done.append((fault, did))
        await run.recoveries.watch(fault.kind, fault.draw)
    except Exception as error:  # noqa: BLE001 - the run goes on, and a check shows this
        text = f"{fault.kind}: {type(error).__name__}: {str(error)[:200]}"
        run.records.violations.append(Violation(checks.FAULTS_INJECTED, text))


async def _finish_jobs(run: _ChaosRun, show: Show) -> list[Violation]:
    """Wait until every job has ended, then end the fleet; return the violations."""
    producers, observer = run.context.producers, run.context.observer
    run.receiver_replies.is_reliable = True
    violations = await _check_idle(run, show)
    for row in await observer.rows("paused_or_planned_jobs"):
        if row["state"] == "paused":
            await producers.resume(row["id"])

    async def ended() -> bool:
        await _cancel_planned(run)
        left = len(await observer.rows("unended_jobs"))
        undelivered = len(await observer.rows("undelivered_webhooks"))
        show(f"finishing: {left} jobs and {undelivered} webhooks are left", 0, 0)
        return not (left or undelivered)

    # A check finds the jobs that have not ended by then.
    await wait_for_async(ended, FINISH_JOBS_SECONDS)
    show("ending the workers", 0, 0)
    return [*violations, *await run.context.fleet.stop()]


async def _check_idle(run: _ChaosRun, show: Show) -> list[Violation]:
    """Pause every running job and check that the fleet is idle; return the violations."""
    producers, observer, fleet = run.context.producers, run.context.observer, run.context.fleet

    async def stopped() -> bool:
        left = await observer.rows("active_job_states")
        show(f"pausing: {len(left)} jobs are left", 0, 0)
        for row in left:
            await producers.pause(row["id"])
        return not left and await fleet.is_ready()

    if not await wait_for_async(stopped, FINISH_JOBS_SECONDS):
        # Other checks find jobs that do not stop and a fleet that does not start.
        return []
    show("checking that the fleet is idle", 0, 0)
    return await check_idle(observer, fleet.workers())


async def _cancel_planned(run: _ChaosRun) -> None:
    """Cancel planned jobs: after drift, nobody confirms them again."""
    for row in await run.context.observer.rows("paused_or_planned_jobs"):
        if row["state"] == "planned":
            run.records.to_be_cancelled.add(row["id"])
            await run.context.producers.cancel(row["id"])


async def _collect_report(
    plan: Plan, run: _ChaosRun, done: list[tuple[Fault, str]], folder: Path
) -> ChaosReport:
    observer, records, fleet = run.context.observer, run.records, run.context.fleet
    names, found = await checks.check_database(observer, records)
    (folder / "logs" / DATABASE_FACTS).write_text(await observer.value("database_facts"))
    found += [
        *await check_webhooks(observer, run.settings, run.receiver, records),
        *records.violations,
        *fleet.violations,
        *read_ends(fleet.ended),
        *read_logs(folder / "logs"),
        *checks.late_recoveries(run.recoveries.results, plan.patience),
    ]
    totals: Any = await observer.value("work_done")
    return ChaosReport(
        seed=plan.seed,
        seconds=plan.seconds,
        done=done,
        recoveries=run.recoveries.results,
        checks=checks.count_violations(names, found),
        work=dict(totals)
        | {
            "opt_outs": len(records.opt_outs),
            "resubmitted": records.resubmitted,
            "answered_twice": records.answered_twice,
            "paused": records.paused,
            "cancelled": records.cancelled,
            "groups_ended": len(fleet.ended),
            "deliveries": len(run.receiver.requests),
        },
        requests=dict(sorted(records.requests.items())),
    )
