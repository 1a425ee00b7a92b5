"""The composition root of a worker process: `dramatiq workers.app` finds `broker` here."""

import gc

import dramatiq

from runtime import logs
from runtime.process import process_name
from runtime.redis_client import redis_client
from runtime.settings import Settings
from workers.actors import declare_actors
from workers.broker import make_broker, make_client_broker
from workers.context import WorkerContext
from workers.enqueue import JobQueue
from workers.middleware.database_pool import DatabasePool
from workers.middleware.event_loop import EventLoop
from workers.middleware.periodic_tasks import PeriodicTasks
from workers.middleware.queue_notifications import QueueNotifications
from workers.middleware.shutdown import Shutdown
from workers.middleware.watchdog import Watchdog
from workers.queue_listener import QueueListener
from workers.server_outages import Outages, is_outage_record

settings = Settings()
_name = process_name(settings)
logs.configure(settings, worker=_name)

outages = Outages(_name)
logs.drop_library_lines(is_outage_record)
assert settings.redis_url is not None
_client_broker = make_client_broker(settings.redis_url, settings.queue_namespace)
context = WorkerContext(settings, JobQueue(_client_broker, outages.queue), _name)

queue_listener = QueueListener(redis_client(settings.redis_url), settings.queue_namespace)

# The order matters: `before_*` hooks run down this list, `after_*` hooks run up. The watchdog
# watches the loop until it stops; the pool needs the loop and closes before it stops; the periodic
# tasks need the pool. QueueNotifications needs nobody, and has the others' time to end in.
broker = make_broker(
    settings,
    [
        QueueNotifications(queue_listener),
        EventLoop(),
        Watchdog(context),
        DatabasePool(context),
        PeriodicTasks(context, outages),
        Shutdown(context),
    ],
    outages.queue,
    queue_listener,
)
declare_actors(broker, context, outages)
dramatiq.set_broker(broker)

# A chunk makes tens of thousands of tuples and no cycle. With Python's usual thresholds a quarter
# of a chunk's CPU time went into looking for cycles among them.
gc.freeze()
gc.set_threshold(200_000, 20, 100)
