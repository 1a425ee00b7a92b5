"""No completion webhook is sent to an address outside the public internet, in any form."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from producers.completion_urls import require_public_url
from runtime.public_addresses import is_public, parse_ip_literal
from runtime.settings import Settings
from schemas.errors import InvalidRequest
from schemas.requests import WebhookUrl

NOT_PUBLIC = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12
192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16
192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
::/96 fc00::/7 fe80::/10 fec0::/10 ff00::/8 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20
64:ff9b:1::/48 5f00::/16 3ffe::/16 2620:4f:8000::/48 4000::/2 8000::/1
"""
_POST_URL: TypeAdapter[str] = TypeAdapter(WebhookUrl)
NETWORKS = [ip_network(text) for text in NOT_PUBLIC.split()]


def inside(network):
    """Return a strategy for any address of the network."""
    low, high = int(network.network_address), int(network.broadcast_address)
    return st.integers(low, high).map(type(network.network_address))


not_public = st.sampled_from(NETWORKS).flatmap(inside)
not_public_v4 = st.sampled_from([n for n in NETWORKS if n.version == 4]).flatmap(inside)


def guises(address: IPv4Address) -> list[IPv6Address]:
    """Return the IPv6 addresses that represent it: mapped, translated (NAT64) and 6to4."""
    number = int(address)
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ]


@given(not_public)
def test_reserved_networks_are_not_public(address):
    """Private, shared, local, reserved, multicast and documentation networks are not public."""
    assert not is_public(address)


@given(not_public_v4)
def test_no_ipv6_form_makes_an_address_public(address):
    """An IPv6 address that represents a non-public IPv4 address is not public either."""
    assert not any(is_public(guise) for guise in guises(address))


@given(st.ip_addresses())
def test_no_address_is_public_that_python_considers_private(address):
    """An address that Python considers non-public is not public, even if our list lacks it."""
    if not address.is_global or address.is_multicast or address.is_link_local:
        stands_for = getattr(address, "ipv4_mapped", None)
        assert not is_public(address) or (stands_for is not None and is_public(stands_for))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "100.128.0.1"]
)
def test_hosts_of_the_internet_are_public(text):
    """The guard lets public addresses through."""
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["168.63.129.16", "169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"],
)
def test_no_metadata_service_is_public(text):
    """Neither a metadata service's address nor any IPv6 form of it is public."""
    address = ip_address(text)
    assert not is_public(address)
    if isinstance(address, IPv4Address):
        assert not any(map(is_public, guises(address)))


def url_of(address, port) -> str:
    """Return a completion URL at the address; `port` is empty or begins with a colon."""
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}{port}/ended"


@given(not_public, st.sampled_from(["", ":80", ":8080", ":6379"]))
def test_a_url_with_a_private_address_is_rejected(address, port):
    """Submission fails with an explanation, unless private webhooks are allowed."""
    url = url_of(address, port)
    with pytest.raises(InvalidRequest, match="nothing was stored"):
        require_public_url(Settings(), url)
    require_public_url(Settings(allow_private_webhooks=True), url)


def refused_as_submitted(url: str) -> bool:
    """Return whether a request with the normalized URL is rejected."""
    try:
        require_public_url(Settings(), _POST_URL.validate_python(url))
    except (ValidationError, InvalidRequest):
        return True
    return False


def spellings(address: IPv4Address) -> list[str]:
    """Return the ways in which a URL may write an IPv4 address."""
    number, (a, b, c, d) = int(address), address.packed
    return [
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{(b << 16) | (c << 8) | d}",
        f"{a:#x}.{b:#x}.{c}.0{d:o}",
        f"{a}.{b}.{c}.{d}.",
        "".join(f"%{ord(character):02x}" for character in str(address)),
        str(address).replace(".", "\u3002").translate({48 + n: 0xFF10 + n for n in range(10)}),
    ]


@given(not_public_v4)
def test_no_spelling_makes_an_address_public(address):
    """Decimal, octal, hexadecimal, trailing-dot, percent-encoded and full-width
    forms are rejected.
    """
    for host in spellings(address):
        assert refused_as_submitted(f"http://{host}/ended"), host
        assert refused_as_submitted(f"https://{host}:/ended"), host
    for guise in guises(address):
        assert refused_as_submitted(url_of(guise, ""))


@pytest.mark.parametrize("end", ["", ".", "\u3002"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "\u24dbocalhost",
        "a.localhost",
        "redis",
        "db.internal",
        "nas.local",
    ],
)
def test_names_of_internal_networks_are_rejected(host, end):
    """These names are rejected without resolving them."""
    assert refused_as_submitted(f"http://{host}{end}/ended")


@pytest.mark.parametrize("port", [1, 22, 25, 81, 443, 2375, 5432, 6379, 8443, 9200, 65535])
@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "[2606:4700::1111]"])
def test_ports_other_than_those_of_web_servers_are_rejected(host, port):
    """The error names the allowed ports."""
    with pytest.raises(InvalidRequest, match="port 443 or 8443"):
        require_public_url(Settings(), f"http://{host}:{port}/ended")
    require_public_url(Settings(allow_private_webhooks=True), f"http://{host}:{port}/ended")


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com/", "https://example.com:443/", "https://example.com:8443/"),
        *("http://example.com/", "http://example.com:8080/", "http://example.com:/"),
        *("https://example.com./", "https://b\u00fccher.example/", "https://8.8.8.8/"),
        "https://[2606:4700::1111]:8443/",
    ],
)
def test_urls_of_the_internet_are_accepted(url):
    """Public URLs are accepted in any unambiguous form."""
    assert not refused_as_submitted(url)


def test_a_name_is_no_literal_address():
    """A name is not treated as an address before it is resolved, whatever it resolves to."""
    assert parse_ip_literal("localhost") is None
    require_public_url(Settings(), "https://example.com/ended")
