"""Rows of a corpus without its files."""

from functools import cache

import numpy as np
import pyarrow as pa
from datasets import Dataset

from s2s.text.vocabulary import EOS


@cache
def rows_of(count: int, seed: int = 0) -> Dataset:
    """Rows of random lengths; the first source word of each row tells which one it is."""
    random = np.random.default_rng(seed)

    def words(row: int) -> list[int]:
        return [row + 4, *random.integers(4, 99, random.integers(0, 7)).tolist()]

    table = pa.table(
        {
            "source_ids": [words(row) for row in range(count)],
            "target_ids": [[*words(row), EOS] for row in range(count)],
        }
    )
    return Dataset(table, fingerprint=f"{count}-{seed}")
