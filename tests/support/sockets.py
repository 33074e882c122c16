"""What a command and the processes that it has started listen on."""

import socket
from contextlib import suppress
from dataclasses import dataclass

import psutil

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@dataclass(frozen=True)
class Socket:
    """A TCP or UDP socket that waits for others to connect or to send."""

    process: str  # its name
    pid: int
    ip: str
    port: int


def listening(pid: int) -> set[Socket]:
    """Return the sockets of a process, and of all below it."""
    found: set[Socket] = set()
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid)]
        family += family[0].children(recursive=True)
        for process in family:
            with suppress(psutil.NoSuchProcess):  # an idle worker of Ray's that ended meanwhile
                found |= {
                    Socket(process.name(), process.pid, place.laddr.ip, place.laddr.port)
                    for place in process.net_connections("inet")
                    if place.status == psutil.CONN_LISTEN
                    or (place.type == socket.SOCK_DGRAM and place.laddr and not place.raddr)
                }
    return found


def reachable_by_others(sockets: set[Socket]) -> set[Socket]:
    """Return those of the sockets that are not on loopback."""
    return {each for each in sockets if each.ip not in LOOPBACK}
