"""The numbers of a sweep as text: scores, settings and times."""

from collections.abc import Collection, Sequence

from s2s.tuning.dimension import Value

# What each objective is called, and the format of its values.
_OBJECTIVES = {
    "token_accuracy": ("token accuracy", ".2%"),
    "loss": ("loss", ".4f"),
    "bleu": ("BLEU", ".2f"),
    "chrf": ("chrF2", ".2f"),
}


def objective_name(objective: str) -> str:
    """Return what people call an objective."""
    return _OBJECTIVES.get(objective, (objective,))[0]


def score_text(objective: str, score: float | None) -> str:
    """Return a value of an objective as text, which is empty without one."""
    _, form = _OBJECTIVES.get(objective, ("", ".4g"))
    return "" if score is None else format(score, form)


def tick_text(objective: str, value: float) -> str:
    """Return a round value of an objective as text for an axis."""
    return f"{100 * value:.4g}%" if objective == "token_accuracy" else f"{value:.4g}"


def setting_text(value: Value) -> str:
    """Return the value of a setting as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short_names(settings: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Return the last part of each dotted name, or all of it where that part is not unique.

    Args:
        taken: what no setting may be called.
    """
    short = {name: name.rpartition(".")[2] for name in settings}
    parts = [*short.values(), *taken]
    return {name: part if parts.count(part) == 1 else name for name, part in short.items()}


def duration(seconds: float) -> str:
    """Return a time in one or two units, such as `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {second} s"
    hours, minute = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minute} min" if hours else f"{minute} min"
