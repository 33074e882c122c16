"""The budget of a sweep: time, epochs and tokens after which it ends."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from s2s.errors import BadInput

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_FORMS = "a time as in 30m or 1h30m, 200epochs, or 50Mtokens"


@dataclass(frozen=True)
class Spent:
    """What a sweep has spent so far, over all of its sessions."""

    seconds: float = 0.0  # of wall time
    epochs: int = 0  # of all trials together
    tokens: int = 0  # target tokens that were trained on


@dataclass(frozen=True)
class Budget:
    """What a sweep may spend. Infinite is without a limit."""

    seconds: float = math.inf  # of wall time
    epochs: float = math.inf  # of all trials together
    tokens: float = math.inf  # target tokens to train on

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Budget":
        """Return the budget of some `--budget` options, such as `30m`, `200epochs`, `50Mtokens`.

        Raises:
            BadInput: a text is none of these, is not more than 0, or limits the same as another.
        """
        limits: dict[str, float] = {}
        for text in texts:
            kind, limit = _parse(text)
            if kind in limits:
                raise BadInput(f"--budget {text}: there is a limit of {kind} already")
            if not limit > 0 or (kind != "seconds" and limit < 1):
                raise BadInput(f"--budget {text}: more than 0 is needed")
            limits[kind] = limit
        return cls(**limits)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return min(self.seconds, self.epochs, self.tokens) < math.inf

    def used_up(self, spent: Spent) -> str | None:
        """Return the limit that is reached, in words, or None if none is."""
        if spent.seconds >= self.seconds:
            return f"the budget of {describe_seconds(self.seconds)} is used up"
        if spent.epochs >= self.epochs:
            return f"the budget of {self.epochs:,.0f} epochs is used up"
        if spent.tokens >= self.tokens:
            return f"the budget of {self.tokens:,.0f} tokens is used up"
        return None

    def describe_left(self, spent: Spent) -> str:
        """Return what is left, as in `12m left, 80 epochs left`; empty without a limit."""
        parts = []
        if self.seconds < math.inf:
            parts.append(f"{describe_seconds(max(0.0, self.seconds - spent.seconds))} left")
        if self.epochs < math.inf:
            parts.append(f"{max(0, self.epochs - spent.epochs):,.0f} epochs left")
        if self.tokens < math.inf:
            parts.append(f"{max(0, self.tokens - spent.tokens):,.0f} tokens left")
        return ", ".join(parts)


def _parse(text: str) -> tuple[str, float]:
    """Return what a `--budget` limits, and how much of it.

    Raises:
        BadInput: the text has no form that is known.
    """
    compact = text.replace(" ", "").replace(",", "")
    if counted := re.fullmatch(r"([0-9.]+)([kMG]?)(epochs?|tokens?)", compact):
        kind = counted[3].rstrip("s") + "s"
        number = _number(counted[1], text) * _FACTORS[counted[2]]
        return kind, number
    if re.fullmatch(r"([0-9.]+[smhd])+", compact):
        parts = re.findall(r"([0-9.]+)([smhd])", compact)
        return "seconds", sum(_number(number, text) * _SECONDS[unit] for number, unit in parts)
    raise BadInput(f"--budget {text}: expected {_FORMS}")


def _number(digits: str, text: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise BadInput(f"--budget {text}: expected {_FORMS}") from None


def describe_seconds(seconds: float) -> str:
    """Return a time in words, as in `1h05m`, `12m` or `40s`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m"
