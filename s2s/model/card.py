"""The model card: the `README.md` of a model directory, for those who open it without s2s."""

from s2s.config import Config
from s2s.model.metrics import RunMetrics

_MEASURES = {
    "loss (nats per token)": "valid_loss",
    "token accuracy (real tokens)": "valid_token_accuracy",
    "padded accuracy (the Keras metric)": "valid_padded_accuracy",
}


def model_card(config: Config, metrics: RunMetrics) -> str:
    """Return the Markdown text that describes a model: network, scores on `valid`, and data."""
    model, corpus = config.model, metrics.corpus
    # A checkpoint in the first epoch has no scores yet; a finished model has those of its weights.
    measured = metrics.valid or metrics.best
    rows = [(name, f"{getattr(measured, key):.4f}") for name, key in _MEASURES.items() if measured]
    rows += [
        (f"{score.name}, {metrics.decoding}, references {score.references}", f"{score.score:.2f}")
        for score in metrics.scores
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    weights = metrics.weights or f"of epoch {len(metrics.epochs)}"
    return f"""# {config.source_language} → {config.target_language}

{"A" if model.cell == "gru" else "An"} {model.cell.upper()} encoder–decoder made by s2s \
{metrics.versions.get("s2s", "(unknown version)")}:
layers {model.layers}, embedding {model.embedding_size}, hidden {model.hidden_size},
{"bidirectional, " * model.bidirectional}attention {model.attention}\
{", adaptive softmax" * (model.output == "adaptive")}. Its weights are {weights}.

| on the `valid` split | |
| --- | --- |
{table}

Trained on {corpus.pairs:,} pairs of `{", ".join(corpus.sources)}` with
{metrics.workers} worker(s) on {metrics.device}. `metrics.json` has every epoch, the
signatures of the scores and the versions; `config.json` the exact settings.

    s2s translate THIS_DIRECTORY
    s2s serve THIS_DIRECTORY
"""
