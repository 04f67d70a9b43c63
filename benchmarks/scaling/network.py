"""Several hosts on one machine: network namespaces, joined by a bridge that is in one of them as well.

Nothing of it is seen outside, and it is gone with its namespaces. Linux only, as root.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NETNS = Path("/run/netns")  # where `ip netns` keeps them
NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h


def missing() -> str:
    """What this needs and is not here; empty where nothing is missing."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs `ip` (iproute2)"
    try:
        with network("probe", 1):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"needs network namespaces ({error})"


class Network:
    """Hosts that reach one another by a bridge. Host 0 has the bridge itself; the others are plugged into it."""

    def __init__(self, name: str) -> None:
        self.prefix = f"addnorm-{name}-{os.getpid()}"

    def namespace(self, host: int) -> str:
        return f"{self.prefix}-{host}"

    def address(self, host: int) -> str:
        return f"10.83.0.{host + 1}"

    def set_plug(self, host: int, up: bool) -> None:
        """Cuts a host off from all others, or joins it again."""
        ip("-n", self.namespace(0), "link", "set", f"port{host}", "up" if up else "down")

    @contextmanager
    def inside(self, host: int) -> Iterator[None]:
        """What this thread opens and starts meanwhile is on that host."""
        with (NETNS / self.namespace(host)).open() as there, Path("/proc/thread-self/ns/net").open() as here:
            enter(there.fileno())
            try:
                yield
            finally:
                enter(here.fileno())


@contextmanager
def network(name: str, hosts: int) -> Iterator[Network]:
    """So many hosts with a bridge between them."""
    made = Network(name)
    try:
        for host in range(hosts):
            ip("netns", "add", made.namespace(host))
            ip("-n", made.namespace(host), "link", "set", "lo", "up")
        ip("-n", made.namespace(0), "link", "add", "bridge", "type", "bridge")
        give_address(made, 0, "bridge")
        for host in range(1, hosts):
            ends = ("link", "add", f"port{host}", "type", "veth", "peer", "name", "wire", "netns", made.namespace(host))
            ip("-n", made.namespace(0), *ends)
            ip("-n", made.namespace(0), "link", "set", f"port{host}", "master", "bridge", "up")
            give_address(made, host, "wire")
        yield made
    finally:
        for host in range(hosts):
            subprocess.run(["ip", "netns", "delete", made.namespace(host)], capture_output=True, check=False)


def give_address(made: Network, host: int, device: str) -> None:
    ip("-n", made.namespace(host), "address", "add", f"{made.address(host)}/24", "dev", device)
    ip("-n", made.namespace(host), "link", "set", device, "up")


def enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(namespace, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
