"""No notice leaves for an address that is not of the public internet, in whatever guise."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.completion_urls import require_public
from runtime.public_addresses import is_public, literal_address
from runtime.settings import Settings
from schemas.errors import WrongInput

NOT_PUBLIC = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.2.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
::/96 fc00::/7 fe80::/10 fec0::/10 ff00::/8 100::/64 2001::/32 2001:db8::/32 2002::/16 3fff::/20
64:ff9b:1::/48 5f00::/16
"""
NETWORKS = [ip_network(text) for text in NOT_PUBLIC.split()]


def inside(network):
    """Any address of the network."""
    low, high = int(network.network_address), int(network.broadcast_address)
    return st.integers(low, high).map(type(network.network_address))


not_public = st.sampled_from(NETWORKS).flatmap(inside)
not_public_v4 = st.sampled_from([n for n in NETWORKS if n.version == 4]).flatmap(inside)


def guises(address: IPv4Address) -> list[IPv6Address]:
    """The IPv6 addresses that stand for it: mapped, translated, and in a 6to4 network."""
    number = int(address)
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ]


@given(not_public)
def test_what_is_reserved_is_not_public(address):
    """Each network that is private, shared, local, reserved, of a group or for documentation."""
    assert not is_public(address)


@given(not_public_v4)
def test_no_guise_makes_an_address_public(address):
    """An IPv4 address does not come in by an IPv6 address that stands for it."""
    assert not any(is_public(guise) for guise in guises(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_not_to_be(address):
    """Whatever the lists here have forgotten."""
    if not address.is_global or address.is_multicast or address.is_link_local:
        stands_for = getattr(address, "ipv4_mapped", None)
        assert not is_public(address) or (stands_for is not None and is_public(stands_for))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "100.128.0.1"]
)
def test_hosts_of_the_internet_are_public(text):
    """The guard lets through what it is for."""
    assert is_public(ip_address(text))


@given(not_public)
def test_a_url_with_such_an_address_is_refused(address):
    """When the job is submitted, in words; where notices may be private it is not."""
    host = f"[{address}]" if address.version == 6 else str(address)
    url = f"http://{host}:8080/ended"
    with pytest.raises(WrongInput, match="nothing was stored"):
        require_public(Settings(), url)
    require_public(Settings(private_notices=True), url)


def test_a_name_is_looked_at_when_it_is_resolved():
    """It is no literal address, whatever it leads to."""
    assert literal_address("localhost") is None
    require_public(Settings(), "https://example.com/ended")
