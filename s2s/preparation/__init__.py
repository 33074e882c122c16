"""Preparation of corpus directories: sources, readers, cleaning, splits and encoding.

Nothing that trains or translates needs it; `s2s.corpus` reads what it writes.
"""

from s2s.preparation.pipeline import prepare
from s2s.preparation.sources import Source

__all__ = ["Source", "prepare"]
