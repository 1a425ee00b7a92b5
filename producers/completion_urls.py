"""Reject an unusable URL for completion webhooks when the job is submitted."""

from urllib.parse import urlsplit

from producers.invalid_request import invalid_request
from runtime.public_addresses import WEB_PORTS, is_public, parse_ip_literal
from runtime.settings import Settings
from schemas.errors import FieldError

_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "onion")
"""Domains that are not of the public internet."""

_PRIVATE = (
    "its host is not on the public internet, and completion webhooks go nowhere else. Give the URL"
    " of a public host, or set ALLOW_PRIVATE_WEBHOOKS=true on a machine of your own."
)
_PORT = (
    "completion webhooks go only to the ports of web servers. Give an https URL with"
    " port 443 or 8443, or an http URL with port 80 or 8080. On a machine of your own, you may set"
    " ALLOW_PRIVATE_WEBHOOKS=true."
)


def require_public_url(settings: Settings, url: str | None) -> None:
    """Raise InvalidRequest unless the URL's host and port are of the public internet.

    A name is resolved only at the delivery, and may have changed by then. An error here would also
    show strangers which names the internal network has.
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
    address = parse_ip_literal(host.rstrip("."))
    if address is not None:
        return not is_public(address)
    name = f".{host.rstrip('.').lower()}"
    # A name of one label is resolved in the local network.
    return name.count(".") == 1 or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES))
