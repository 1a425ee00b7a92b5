"""Refusing a URL for completion notices that cannot be one, while somebody is there to be told."""

from urllib.parse import urlsplit

from producers.wrong_input import refused
from runtime.public_addresses import is_public, literal_address
from runtime.settings import Settings
from schemas.errors import Mistake


def require_public(settings: Settings, url: str | None) -> None:
    """Raise WrongInput where the URL's host is an address that is not public.

    What a name leads to shows only when a notice is delivered, and is looked at then.
    """
    if url is None or settings.private_notices:
        return
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = literal_address(host)
    local = not host or host == "localhost" or host.endswith(".localhost")
    if local or (address is not None and not is_public(address)):
        why = (
            "its host is an address that cannot be reached from the public internet, and notices go"
            " nowhere else. Give the URL of a public host, or set PRIVATE_NOTICES=true on a machine"
            " of your own."
        )
        raise refused("The request", [Mistake("completion_url", why)])
