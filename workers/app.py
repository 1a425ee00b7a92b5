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
from workers.enqueue import Doorbell
from workers.middleware.database import Database
from workers.middleware.event_loop import EventLoop
from workers.middleware.housekeeping import Housekeeping
from workers.middleware.listening import Listening
from workers.middleware.shutdown import Shutdown
from workers.middleware.watchdog import Watchdog
from workers.outages import Outages, is_about_an_outage
from workers.queue_listener import WakeUps

settings = Settings()
_name = process_name(settings)
logs.configure(settings, worker=_name)

outages = Outages(_name)
logs.leave_out(is_about_an_outage)
assert settings.redis_url is not None
_ringing = make_client_broker(settings.redis_url, settings.queue_namespace)
context = WorkerContext(settings, Doorbell(_ringing, outages.queue), _name)

wake_ups = WakeUps(redis_client(settings.redis_url), settings.queue_namespace)

# The order matters: `before_*` hooks run down this list, `after_*` hooks run up. The watchdog
# watches the loop until it stops; the pool needs the loop and closes before it stops; the periodic
# tasks need the pool. Listening needs nobody, and has the others' time to end in.
broker = make_broker(
    settings,
    [
        Listening(wake_ups),
        EventLoop(),
        Watchdog(context),
        Database(context),
        Housekeeping(context, outages),
        Shutdown(context),
    ],
    outages.queue,
    wake_ups,
)
declare_actors(broker, context, outages)
dramatiq.set_broker(broker)

# A chunk makes tens of thousands of tuples and no cycle. With Python's usual thresholds a quarter
# of a chunk's CPU time went into looking for cycles among them.
gc.freeze()
gc.set_threshold(200_000, 20, 100)
