"""The number of replicas, by the sentences that they have and not by their requests."""

from typing import Any

from ray.serve.config import AutoscalingContext

SENTENCES = "ongoing_sentences"  # the metric that each replica gives Serve


def by_sentences(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Return how many replicas a deployment needs, and no state of the policy.

    A list of 64 texts counts as 64, a text one more for every 200 characters, and a search with a
    wider beam as many times as much (`s2s.serving.engine.weight`). There are never fewer replicas
    than the requests alone would need: some are in no engine, as their bodies are on their way.

    It is the `policy_function` of a deployment's `autoscaling_config`, whose
    `target_ongoing_requests` then is the number of sentences that a replica is to have. Serve
    itself applies the factors, delays and bounds of that config.
    """
    metrics = context.aggregated_metrics or {}
    sentences = sum(metrics.get(SENTENCES, {}).values()) + context.total_queued_requests
    work = max(context.total_num_requests, sentences)
    return work / context.config.get_target_ongoing_requests(), {}
