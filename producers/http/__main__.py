"""`python -m producers.http`: a web process, as the Procfile starts it."""

import sys

import uvicorn

from runtime import logs
from runtime.settings import Settings
from schemas.errors import SluiceError

SHUTDOWN_SECONDS = 5
"""How long requests that are under way may take to end after SIGTERM."""


def main() -> int:
    """Serve until told to end; 1 with a sentence where the settings do not suffice."""
    try:
        settings = Settings()
        settings.require_urls()
        settings.require_signing_key()
    except SluiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    logs.configure(settings)
    uvicorn.run(
        "producers.http.app:make_app",
        factory=True,
        host=settings.listens_on,
        port=settings.port,
        workers=settings.web_processes,
        loop="uvloop",
        http="httptools",
        # Its lines tell paths, which have addresses and tokens in them.
        access_log=False,
        log_config=None,
        server_header=False,
        # A router stands in front of a dyno; what it says of a client matters to nobody here.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
