"""How a corpus directory is made: sources, readers, cleaning, splits and encoding."""

from s2s.preparation.pipeline import prepare
from s2s.preparation.sources import Source

__all__ = ["Source", "prepare"]
