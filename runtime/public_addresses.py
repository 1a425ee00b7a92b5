"""Which network addresses are public, so that completion webhooks may go there.

A submitter names the URL. Without this check, a name that resolves to the cloud's metadata service,
or to an internal database, would let a submitter post there from inside.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

WEB_PORTS = {"http": (80, 8080), "https": (443, 8443)}
"""The ports of web servers. On other ports a POST could reach another kind of server."""

# What `is_global` of some Python takes for public, and yet no public web server has: ranges that
# clouds reserve, and those of IANA's special-purpose registries that Python learned later or omits.
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # Azure's own services
            "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle's metadata
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.175.48.0/24",  # AS112
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and others
            "2002::/16",  # 6to4, which leads to any IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3ffe::/16",  # given back by the 6bone
            "3fff::/20",  # documentation
        ),
    )
)
_GLOBAL_UNICAST = ip_network("2000::/3")
"""Everything else is not public, such as unique local (fd00:ec2::254 is a metadata service)."""

_TRANSLATED = ip_network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether it is a host's address on the public internet.

    An IPv6 address that embeds an IPv4 one, mapped or translated (NAT64), is judged by that one.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _NOT_PUBLIC)
    )


def parse_ip_literal(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a URL's host as an IP address, with or without brackets; None if it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
