"""The coroutine that injects each kind of fault."""

from tests.chaos.fault_plan import Kind
from tests.chaos.faults import InjectFault, postgres, processes, redis, web, work

FAULTS_BY_KIND: dict[Kind, InjectFault] = {
    Kind.WORKER_KILLED: processes.kill_worker,
    Kind.GROUP_KILLED: processes.kill_group,
    Kind.GROUP_TERMINATED: processes.terminate_group,
    Kind.WORKER_STOPPED: processes.stop_worker,
    Kind.REDIS_WIPED: redis.wipe,
    Kind.REDIS_KILLED: redis.kill,
    Kind.REDIS_STALLED: redis.stall,
    Kind.MESSAGES_TRIPLED: redis.triple_messages,
    Kind.POSTGRES_RESTARTED: postgres.restart,
    Kind.CONNECTIONS_TERMINATED: postgres.terminate_connections,
    Kind.DECISION_RAISES: work.raise_in_decision,
    Kind.WRITE_FAILS: work.refuse_writes,
    Kind.LOOP_BLOCKED: work.block_loop,
    Kind.WORKER_POISONED: work.poison_worker,
    Kind.WEB_KILLED: web.kill,
    Kind.WEB_TERMINATED: web.terminate,
    Kind.WEB_STOPPED: web.stop,
}
