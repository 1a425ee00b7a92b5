"""Celery as its own documentation advises for long tasks that must not be lost."""

from celery import Celery

from bench.competitors.place import Place, place


def _url(redis_url: str) -> str:
    """The URL as Celery writes it: it has a scheme of its own for a socket in the file system."""
    scheme, separator, rest = redis_url.partition("://")
    return ("redis+socket" if scheme == "unix" else scheme) + separator + rest


def make_app(here: Place) -> Celery:
    """An app whose queue and keys carry the namespace."""
    url = _url(here.redis_url)
    keys = {"global_keyprefix": f"{here.namespace}:"}
    app = Celery(here.namespace, broker=url, backend=url)
    app.conf.update(
        broker_transport_options=keys,
        result_backend_transport_options=keys,
        broker_connection_retry_on_startup=True,
        task_default_queue=here.namespace,
        task_serializer="json",
        accept_content=["json"],
        # A task is done again when its worker was killed, and is no longer than a few seconds.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # The driver waits for the results; they say nothing but that the chunk is committed.
        result_expires=3600,
    )
    return app


app = make_app(place())
