"""Two hosts and a network that can fail: network namespaces, and servers reached over TCP.

Each host has a cable (a veth pair) to Postgres and one to Redis, so that each connection can be cut
separately. The servers run outside the namespaces, at the other ends.
"""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import pytest
import redis

from runtime.devservers.directory import ServerDirectory
from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.devservers.postgres import postgres_process
from tests.kit.servers import PROCESS_ROLE
from tests.kit.waiting import wait_until_async

BLOCK = IPv4Address("198.18.0.0")
"""The 131,072 addresses reserved for network tests (RFC 2544)."""


class Cable(NamedTuple):
    """A link from a host to a server: the server's device and address, and the host's address."""

    host: str
    device: str
    address: str
    host_address: str

    def create(self) -> None:
        """Create both ends and bring them up."""
        inside = f"{self.device}i"
        ip("link", "add", self.device, "type", "veth", "peer", "name", inside, "netns", self.host)
        ip("address", "add", f"{self.address}/30", "dev", self.device)
        ip("-n", self.host, "address", "add", f"{self.host_address}/30", "dev", inside)
        ip("-n", self.host, "link", "set", inside, "up")
        self.plug()

    def pull(self) -> None:
        """Drop all packets in both directions.

        No connection is reset: the host's end only loses its carrier, and the server's packets must
        not leave this machine another way.
        """
        ip("link", "set", self.device, "down")
        ip("route", "add", "blackhole", f"{self.host_address}/32")

    def plug(self) -> None:
        """Let packets through."""
        ip("link", "set", self.device, "up")
        ip("route", "del", "blackhole", f"{self.host_address}/32", may_fail=True)

    def connections(self) -> list[str]:
        """Return the host's established connections to the server, as listed by `ss`."""
        command = ["ss", "-N", self.host, "-Htn", "state", "established", "dst", self.address]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.splitlines()


class Host(NamedTuple):
    """One host: the name of its namespace, and its cables to the servers."""

    name: str
    to_postgres: Cable
    to_redis: Cable

    @property
    def prefix(self) -> list[str]:
        """Return the prefix that runs a command on the host."""
        return ["ip", "netns", "exec", self.name]


def ip(*arguments: str, may_fail: bool = False) -> None:
    """Run `ip`. Raises OSError with its error output if it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def require_namespaces() -> None:
    """Skip the test if network namespaces are not available; in CI, `ip` must be installed."""
    if not (shutil.which("ip") and shutil.which("ss")):
        assert not os.environ.get("CI"), "ip and ss (Debian package iproute2) are not installed"
        pytest.skip("two hosts need ip and ss: install iproute2")
    name = f"sluice-{uuid4().hex[:8]}"
    try:
        ip("netns", "add", name)
        try:
            ip("link", "add", f"{name}p"[-15:], "type", "veth", "peer", "name", f"{name}q"[-15:])
            ip("link", "del", f"{name}p"[-15:])
        finally:
            ip("netns", "del", name)
    except OSError as error:
        pytest.skip(f"two hosts need network namespaces, which are not permitted here ({error})")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Yield two hosts with all cables plugged; remove everything afterwards."""
    require_namespaces()
    token = uuid4().hex[:6]
    first = BLOCK + 16 * random.randrange(131_072 // 16)
    hosts = []
    with ExitStack() as undo:
        for number, letter in enumerate("ab"):
            name = f"sluice-{token}-{letter}"
            cables = [
                Cable(
                    name,
                    f"sl{token}{letter}{to[0]}",
                    str(first + 8 * number + 4 * place + 1),
                    str(first + 8 * number + 4 * place + 2),
                )
                for place, to in enumerate(("postgres", "redis"))
            ]
            ip("netns", "add", name)
            # Removing the namespace removes its cable ends, and with them the other ends.
            undo.callback(ip, "netns", "del", name, may_fail=True)
            ip("-n", name, "link", "set", "lo", "up")
            for cable in cables:
                undo.callback(ip, "link", "del", cable.device, may_fail=True)
                undo.callback(cable.plug)
                cable.create()
            hosts.append(Host(name, *cables))
        yield hosts[0], hosts[1]


class TcpServers(NamedTuple):
    """Servers of one test: the URLs from this machine, and the ports at the cables' ends."""

    here: ServerUrls
    postgres_port: int
    redis_port: int

    def urls_from(self, host: Host) -> ServerUrls:
        """Return the URLs from the host over its cables, without names to resolve."""
        return ServerUrls(
            f"postgresql://{PROCESS_ROLE}@{host.to_postgres.address}:{self.postgres_port}/postgres",
            f"redis://{host.to_redis.address}:{self.redis_port}",
        )


@contextmanager
def servers_of(folder: Path, hosts: tuple[Host, Host]) -> Iterator["_ServerListener"]:
    """Yield embedded servers in `folder`, which do not listen on TCP until they are opened to the
    hosts.
    """
    with embedded_servers(folder, durable=False) as servers:
        yield _ServerListener(ServerDirectory(folder.resolve()), servers, hosts)


class _ServerListener(NamedTuple):
    directory: ServerDirectory
    servers: ServerUrls
    hosts: tuple[Host, Host]

    async def open(self) -> TcpServers:
        """Let both servers listen at the cables' ends, in addition to their sockets."""
        redis_addresses = [host.to_redis.address for host in self.hosts]
        redis_port = _free_port(redis_addresses[0])
        with redis.Redis.from_url(self.servers.redis_url) as client:
            client.config_set("protected-mode", "no")
            client.config_set("bind", " ".join(redis_addresses))
            client.config_set("port", str(redis_port))
        addresses = [host.to_postgres.address for host in self.hosts]
        port = _free_port(addresses[0])
        connection = await asyncpg.connect(self.servers.database_url)
        await connection.execute(f"alter system set listen_addresses = '{','.join(addresses)}'")
        await connection.execute(f"alter system set port = {port}")
        allowed = Path(await connection.fetchval("show hba_file"))
        await connection.close()
        _allow(allowed, [host.to_postgres.host_address for host in self.hosts])
        # The keeper restarts it with the new settings.
        postgres_process(self.directory.postgres(self.directory.sockets())).stop()
        here = f"{self.servers.database_url}&port={port}"

        async def answers() -> bool:
            try:
                await (await asyncpg.connect(here)).close()
            except (OSError, asyncpg.CannotConnectNowError):
                return False
            return True

        await wait_until_async(answers, deadline_seconds=30, what="Postgres listens by TCP")
        return TcpServers(ServerUrls(here, self.servers.redis_url), port, redis_port)


def _allow(allowed: Path, addresses: list[str]) -> None:
    with allowed.open("a", encoding="utf-8") as file:
        file.writelines(f"host all all {address}/32 trust\n" for address in addresses)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as probe:
        return probe.getsockname()[1]
