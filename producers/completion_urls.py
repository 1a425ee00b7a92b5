"""Refusing a completion URL that cannot work, while its submitter can still be told."""

from urllib.parse import urlsplit

from producers.invalid_request import invalid_request
from runtime.public_addresses import WEB_PORTS, is_public, parse_ip_literal
from runtime.settings import Settings
from schemas.errors import FieldError

_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "onion")
"""Ends of names that mean nothing, or something else, in the public internet."""

_PRIVATE = (
    "its host cannot be reached from the public internet, and notices go nowhere else. Give the URL"
    " of a public host, or set ALLOW_PRIVATE_WEBHOOKS=true on a machine of your own."
)
_PORT = (
    "notices go to the ports of web servers only. Give an https URL with port 443 or 8443, or an"
    " http URL with port 80 or 8080; or set ALLOW_PRIVATE_WEBHOOKS=true on a machine of your own."
)


def require_public_url(settings: Settings, url: str | None) -> None:
    """Raise InvalidRequest if the URL's host or port is not one of the public internet.

    A name is not resolved: its address matters only when a webhook is delivered, and an answer now
    would tell strangers which names exist inside.
    """
    if url is None or settings.allow_private_webhooks:
        return
    parts = urlsplit(url)
    if _is_private(parts.hostname or ""):
        raise invalid_request("The request", [FieldError("completion_url", _PRIVATE)])
    ports = WEB_PORTS[parts.scheme]
    if (ports[0] if parts.port is None else parts.port) not in ports:
        raise invalid_request("The request", [FieldError("completion_url", _PORT)])


def _is_private(host: str) -> bool:
    """Return whether the host is a non-public address, or a name in a private network."""
    address = parse_ip_literal(host.rstrip("."))
    if address is not None:
        return not is_public(address)
    name = f".{host.rstrip('.').lower()}"
    # A name of one label is looked up among those of the network at hand.
    return name.count(".") == 1 or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES))
