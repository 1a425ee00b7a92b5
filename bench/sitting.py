"""One run of a benchmark: where it takes place, under what circumstances, and how it may end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import asyncpg
import redis
from rich.console import Console

from bench.machine import describe
from bench.places import Place, place_to_measure
from db.pool import open_pool
from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError
from tests.kit.interruption import INTERRUPTED, exit_on_signals


def measured_or_exit(
    measure: Callable[[Place], Coroutine[Any, Any, dict[str, Any]]],
    console: Console,
    run: Callable[[Coroutine[Any, Any, dict[str, Any]]], dict[str, Any]] = asyncio.run,
) -> dict[str, Any]:
    """What was measured, in a place that is gone afterwards.

    Where nothing was, the console says why, and the program exits with the status that tells so.
    """
    try:
        with exit_on_signals(), place_to_measure() as place:
            return run(measure(place))
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed, and no figures were kept.")
        sys.exit(INTERRUPTED)
    except SluiceError as error:
        console.print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)
    except asyncpg.InsufficientPrivilegeError as error:
        console.print(
            f"Nothing was measured: {error}. Give the role of DATABASE_URL the right to create"
            " databases, or unset DATABASE_URL and REDIS_URL: servers start by themselves then."
        )
        sys.exit(SluiceError.exit_code)
    except redis.exceptions.ConnectionError as error:
        console.print(
            f"Nothing was measured: the server of REDIS_URL does not answer ({error}). Start it,"
            " or unset DATABASE_URL and REDIS_URL: servers start by themselves then."
        )
        sys.exit(SluiceError.exit_code)


async def circumstances(place: Place, settings: Settings) -> dict[str, Any]:
    """When, on what machine, and with which settings the figures are taken. From now on only
    errors are logged, as warnings about what a contender does would stand between the figures.
    """
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    async with await open_pool(place.servers.database_url, size=1) as pool:
        machine = await describe(pool, place.servers.redis_url)
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "settings": settings.model_dump(exclude={"database_url", "redis_url", "queue_namespace"}),
        "embedded_servers": place.embedded,
    }
