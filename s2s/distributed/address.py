"""Whether the Ray cluster at an address can be used, known within seconds.

Ray itself tries for a quarter of an hour, and prints what its C++ core logs meanwhile.
"""

import os
import platform
import re
import socket
from dataclasses import dataclass

import ray

from s2s.distributed import ray_internals
from s2s.distributed.ray_internals import NoAnswer, NoRay, NoToken, TokenRefused
from s2s.distributed.token import missing_token, token_advice
from s2s.errors import BadInput, Failed

_CONNECT_SECONDS = 4.0  # for each address of a name
_ANSWER_SECONDS = 5.0  # for each of two calls


@dataclass(frozen=True)
class Setting:
    """Where the user has named a cluster, for messages."""

    prefix: str  # of the address
    advice: str  # how to do without a cluster


VARIABLE = Setting("RAY_ADDRESS=", "unset RAY_ADDRESS to start Ray on this machine")
OPTION = Setting("--address ", "leave out --address to check this machine alone")


def require_cluster(address: str, setting: Setting = VARIABLE) -> None:
    """Check that a cluster of this version of Ray and Python answers at an address.

    Args:
        address: HOST:PORT, or `auto` for the cluster on this host.
        setting: where the user has named the address.

    Raises:
        BadInput: it is no such address, the versions differ, or the cluster refuses the token.
        Failed: nothing answers there, or no Ray.
    """
    named = f"{setting.prefix}{address}"
    if address == "auto":
        try:
            address = ray_internals.address_on_this_host()
        except ConnectionError:
            raise Failed(
                f"{named}: no single cluster runs on this machine; {setting.advice}"
            ) from None
        ray_internals.send_token_if_there_is_one()
        named = f"{named} ({address})"
    host, port = _host_and_port(address, named, setting.advice)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or "no answer in time"
        raise Failed(f"{named}: nothing answers there ({reason}); {setting.advice}") from None
    try:
        ray_version, python_version = ray_internals.cluster_versions(address, _ANSWER_SECONDS)
    except NoRay:
        raise Failed(
            f"{named}: what answers there is no Ray cluster (its port is 6379 by default); "
            f"{setting.advice}"
        ) from None
    except NoAnswer:
        raise Failed(
            f"{named}: something listens there, but does not answer as Ray in "
            f"{_ANSWER_SECONDS:g} s: the head is overloaded, or this is another program's port "
            f"(Ray's is 6379 by default); {setting.advice}"
        ) from None
    except NoToken:
        raise BadInput(f"{named}: {missing_token()}") from None
    except TokenRefused:
        raise BadInput(f"{named}: the cluster {token_advice()}") from None
    _require_same_versions(ray_version, python_version, named, setting.advice)


def _host_and_port(address: str, named: str, advice: str) -> tuple[str, int]:
    """Return the two parts of an address.

    Raises:
        BadInput: it does not have them, or is for another kind of client.
    """
    if re.match(r"https?://", address):
        raise BadInput(
            f"{named} is a dashboard, which takes jobs (s2s submit); name HOST:PORT of Ray itself "
            f"(port 6379 by default), or {advice}"
        )
    if address.startswith("ray://"):
        raise BadInput(
            f"{named} is for Ray Client, which s2s does not use: submit a job (s2s submit), or "
            f"{advice}"
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise BadInput(f"{named}: HOST:PORT of a cluster is needed, or {advice}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _require_same_versions(ray_version: str, python_version: str, named: str, advice: str) -> None:
    """Check the versions of a cluster.

    Raises:
        BadInput: they differ from this process's.
    """
    own = platform.python_version()
    digits = 2 if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor" else 3
    same_python = own.split(".")[:digits] == python_version.split(".")[:digits]
    if ray_version != ray.__version__ or not same_python:
        raise BadInput(
            f"{named}: the cluster has Ray {ray_version} and Python {python_version}, and this "
            f"process Ray {ray.__version__} and Python {own}: they must be equal; install these "
            f"versions, submit a job (s2s submit), or {advice}"
        )
