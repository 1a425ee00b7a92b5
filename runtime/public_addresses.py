"""Which addresses of the network lie outside the house: those to which a stranger may send us.

Whoever submits a job may name a URL to be told at. Without this a name that leads to the cloud's
metadata service, or to a database next door, would let a stranger post there from inside.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = (
    # What they carry on to is an IPv4 address, of whatever kind.
    IPv6Network("2002::/16"),
    IPv6Network("2001::/32"),
    # For documentation; Python learned of it in 3.13.
    IPv6Network("3fff::/20"),
)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is a host's address in the public internet.

    An IPv6 address that stands for an IPv4 one, mapped or translated (NAT64), is as that one is.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or any(address in net for net in _NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a URL's host is, brackets aside; None where it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
