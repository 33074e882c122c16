"""How many replicas Serve is told to have."""

from typing import Any

import pytest
import yaml
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from s2s.distributed.autoscaling import SENTENCES, by_sentences
from tests.support.cluster import REPOSITORY

FILE = REPOSITORY / "cluster" / "serve.yaml"


def configured() -> AutoscalingConfig:
    """What `serve.yaml` says."""
    [application] = yaml.safe_load(FILE.read_text("utf-8"))["applications"]
    return AutoscalingConfig(**application["deployments"][0]["autoscaling_config"])


def context(requests: float, queued: float, metrics: dict[str, Any] | None) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id="Translation", deployment_name="Translation", app_name="s2s",
        current_num_replicas=2, target_num_replicas=2, running_replicas=["a", "b"],
        total_num_requests=lambda: requests, total_queued_requests=lambda: queued,
        aggregated_metrics=lambda: metrics, raw_metrics=None,
        capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=4, policy_state={},
        last_scale_up_time=None, last_scale_down_time=None, current_time=0.0, config=configured(),
    )  # fmt: skip


def test_the_file_names_the_policy() -> None:
    assert configured().policy.policy_function == f"{by_sentences.__module__}:by_sentences"
    assert configured().policy.get_policy()(context(1, 0, {SENTENCES: {"a": 64}})) == (2, {})


@pytest.mark.parametrize(
    ("requests", "queued", "metrics", "replicas"),
    [
        (0, 0, {SENTENCES: {"a": 0, "b": 0}}, 0),
        (64, 0, {SENTENCES: {"a": 32, "b": 32}}, 2),  # one text each
        (2, 0, {SENTENCES: {"a": 64, "b": 64}}, 4),  # lists
        (2, 32, {SENTENCES: {"a": 16, "b": 48}}, 3),  # and requests that no replica has yet
        (96, 0, {SENTENCES: {"a": 1}}, 3),  # in no engine, or of a replica that says nothing
        (32, 0, {}, 1),
        (32, 0, None, 1),
    ],
)
def test_replicas_follow_sentences(
    requests: float, queued: float, metrics: dict[str, Any] | None, replicas: float
) -> None:
    assert by_sentences(context(requests, queued, metrics)) == (replicas, {})


def test_serves_own_policy_would_not_see_lists() -> None:
    """The reason for a policy of our own."""
    lists = context(2, 0, {SENTENCES: {"a": 64, "b": 64}})
    replicas, _ = replica_queue_length_autoscaling_policy(lists)
    assert replicas < 1
