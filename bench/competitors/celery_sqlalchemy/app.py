"""Celery as its documentation recommends for long tasks that must not be lost, and sessions."""

from celery import Celery
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import sessionmaker

from bench.competitors.environment import DATABASE_URL, NAMESPACE, REDIS_URL

# Celery has a URL scheme of its own for a socket in the file system.
_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
_KEYS = {"global_keyprefix": f"{NAMESPACE}:"}

engine = create_engine(make_url(DATABASE_URL).set(drivername="postgresql+psycopg"))
Session = sessionmaker(engine)
app = Celery(NAMESPACE, broker=_URL, backend=_URL)
app.conf.update(
    broker_transport_options=_KEYS,
    result_backend_transport_options=_KEYS,
    broker_connection_retry_on_startup=True,
    task_default_queue=NAMESPACE,
    task_serializer="json",
    accept_content=["json"],
    # A task is repeated if its worker was killed, and takes a few seconds at most.
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # The driver waits for the results, which only say that the chunk is committed.
    result_expires=3600,
)
