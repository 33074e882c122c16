"""What a command and the processes that it has started listen on."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@dataclass(frozen=True)
class Socket:
    """A TCP socket that listens, or a UDP socket on a port that was chosen."""

    process: str  # its name
    pid: int
    ip: str
    port: int


def listening(pid: int) -> set[Socket]:
    """Return the sockets of a process, and of all below it."""
    found: set[Socket] = set()
    # A UDP socket that only sends, as HAProxy's for logs, has a port that the system has given it.
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid)]
        family += family[0].children(recursive=True)
        for process in family:
            with suppress(psutil.NoSuchProcess):  # an idle worker of Ray's that ended meanwhile
                found |= {
                    Socket(process.name(), process.pid, place.laddr.ip, place.laddr.port)
                    for place in process.net_connections("inet")
                    if place.status == psutil.CONN_LISTEN
                    or (
                        place.type == socket.SOCK_DGRAM
                        and place.laddr
                        and not first <= place.laddr.port <= last
                    )
                }
    return found


def reachable_by_others(sockets: set[Socket]) -> set[Socket]:
    """Return those of the sockets that are not on loopback."""
    return {each for each in sockets if each.ip not in LOOPBACK}
