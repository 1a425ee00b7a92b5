"""The composition root of a worker process, where dramatiq finds the broker."""

import gc

import dramatiq

from db import queries
from runtime import logs
from runtime.process import process_name
from runtime.redis_client import redis_client
from runtime.settings import Settings
from workers.actors import declare_actors
from workers.broker import WorkerBroker, make_client_broker
from workers.context import WorkerContext
from workers.job_queue import JobQueue
from workers.middleware.database_pool import DatabasePool
from workers.middleware.event_loop import EventLoop
from workers.middleware.lifecycle_log import LifecycleLog
from workers.middleware.periodic_tasks import PeriodicTasks
from workers.middleware.watchdog import Watchdog
from workers.queue_listener import QueueListener
from workers.server_outages import Outages, is_outage_record
from workers.shutdown import stop_on_signals

settings = Settings()
_name = process_name(settings)
logs.configure(settings, worker=_name)
logs.drop_library_lines(is_outage_record)

outages = Outages()
assert settings.redis_url is not None
_client_broker = make_client_broker(settings.redis_url, settings.queue_namespace)
context = WorkerContext(settings, JobQueue(_client_broker, outages.queue), _name)
stop_on_signals(context.stopping)

queue_listener = QueueListener(redis_client(settings.redis_url), settings.queue_namespace)

# `before_*` hooks run down this list, `after_*` hooks run up. The pool needs the event loop and
# closes before it stops; the watchdog watches the loop until then. The periodic tasks need the
# pool. The queue listener needs nothing, and its thread ends while the others stop.
broker = WorkerBroker(
    settings,
    [
        queue_listener,
        EventLoop(),
        Watchdog(context),
        DatabasePool(context),
        PeriodicTasks(context, outages),
        LifecycleLog(context),
    ],
    outages.queue,
    queue_listener,
)
declare_actors(broker, context, outages)
dramatiq.set_broker(broker)

queries.preload()
# A chunk makes tens of thousands of tuples and no cycle. With Python's default thresholds, the
# search for cycles among them took a quarter of a chunk's CPU time.
gc.freeze()
gc.set_threshold(200_000, 20, 100)
