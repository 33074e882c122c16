"""Workers on a cluster that grows: Ray's own autoscaler over its fake node provider."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Done, start_head

pytestmark = pytest.mark.slow  # a cluster of its own


def config(gcs: str) -> dict[str, object]:
    """At most one node of one CPU beside a head that has none."""
    lists = (
        "initialization_commands", "setup_commands", "head_setup_commands",
        "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
        "cluster_synced_files", "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    return {
        "cluster_name": "fake",
        "max_workers": 1,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": gcs,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu": {
                "resources": {"CPU": 1, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
    }


@pytest.fixture(scope="module")
def growing() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as name:
        file = Path(name) / "autoscaling.json"

        def write(gcs: str) -> None:
            file.write_text(json.dumps(config(gcs)))

        cluster, head = start_head(
            Path(name), 0, f"--autoscaling-config={file}", before=write,
            RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1",
        )  # fmt: skip
        yield cluster
        head.stop()


def train(cluster: Cluster, corpus: Path, out: Path, *options: object) -> Done:
    return cluster.s2s(
        "train", "demo", "--corpus", corpus, "--out", out, "--train.epochs", 1,
        "--model.hidden-size", 8, *options,
    )  # fmt: skip


def test_a_cluster_that_cannot_grow_enough_is_given_up(
    growing: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = train(growing, small_corpus, tmp_path / "m", "--workers", 3, "--wait", 8)
    assert done.code == 1
    assert "waiting up to 8 s" in done.out
    assert "did not grow to 3 workers in 8 s" in done.err


def test_a_cluster_that_can_grow_is_waited_for(
    growing: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = train(growing, small_corpus, tmp_path / "m", "--workers", 1, "--wait", 90)
    assert done.code == 0, done.err
    assert (tmp_path / "m" / "model.safetensors").exists()
