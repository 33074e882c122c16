"""Clusters that last as long as a command, as Slurm's jobs have them."""

import re
import secrets
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY
from tests.support.hosts import hosts, reason_for_none

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(reason_for_none() is not None, reason=str(reason_for_none())),
]


def documented() -> list[str]:
    """The arguments of the page's `ray symmetric-run`, up to the command of s2s."""
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    [arguments] = re.findall(r"(?s) (ray symmetric-run .*?) -- \\\n", page)
    return arguments.replace("\\\n", " ").replace('"', "").split()


def test_a_training_runs_as_the_page_says(small_corpus: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    with hosts(2, tmp_path / "hosts", [shared, small_corpus]) as two:
        values = {
            "$RAY_ADDRESS": f"{two[0].address}:6379",
            "$SLURM_NNODES": "2",
            "$SLURM_CPUS_PER_TASK": "1",
        }
        command = documented()
        for variable, value in values.items():
            command = [part.replace(variable, value) for part in command]
        training = [
            "s2s", "train", "demo", "--corpus", small_corpus, "--out", shared / "model",
            "--workers", 2, "--train.epochs", 1, "--train.batch-size", 64,
            "--model.hidden-size", 8, "--model.embedding-size", 8,
        ]  # fmt: skip
        environment = {
            "GLOO_SOCKET_IFNAME": "eth0",
            "RAY_ADDRESS": values["$RAY_ADDRESS"],
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": "300",
        }
        started = [
            host.start(*command, "--object-store-memory=200000000", "--", *training, **environment)
            for host in two
        ]
        output = [each.communicate(timeout=800)[0] for each in started]
        assert started[0].returncode == 0, output
        assert (shared / "model" / "metrics.json").is_file()
        assert "Ray cluster is ready!" in output[1]
