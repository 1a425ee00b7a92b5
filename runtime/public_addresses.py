"""Which network addresses are public: those to which a stranger may send us.

The submitter of a job may name a URL to be told at. Without this check, a name that resolves to the
cloud's metadata service, or to a database nearby, would let a stranger post there from inside.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

WEB_PORTS = {"http": (80, 8080), "https": (443, 8443)}
"""The ports of web servers. On other ports a POST could reach another kind of server."""

# IANA's special-purpose registries, independent of the version of Python, and the ranges that
# clouds reserve. No public web server has an address in any of these.
_NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by customers; 100.100.100.200 is Alibaba's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's own services
            "169.254.0.0/16",  # link-local, with the metadata service of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""Everything else is not public, such as unique local (fd00:ec2::254 is a metadata service)."""

_TRANSLATED = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and others
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which leads to any IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3ffe::/16",  # given back by the 6bone
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether it is a host's address on the public internet.

    An IPv6 address that embeds an IPv4 one, mapped or translated (NAT64), is judged by that one.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _TRANSLATED:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and not any(address in net for net in _NOT_PUBLIC_V6)


def parse_ip_literal(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a URL's host as an IP address, with or without brackets; None if it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
