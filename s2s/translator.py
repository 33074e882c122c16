"""A trained model as a function from sentences to sentences."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch.nn.utils.rnn import pad_sequence

from s2s.bundle import Bundle
from s2s.config import Config
from s2s.decode import greedy
from s2s.text import PAD


class Translator:
    """Translates with the model of a model directory."""

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu") -> None:
        self._bundle = bundle
        self._device = torch.device(device)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """The translator of a model directory.

        Raises:
            BadInput: `path` is no complete model directory.
        """
        return cls(Bundle.load(path, device), device)

    @property
    def config(self) -> Config:
        """The model's config."""
        return self._bundle.config

    def translate(
        self, sentences: list[str], on_batch: Callable[[int], None] = lambda sentences: None
    ) -> list[str]:
        """A translation for each sentence; a sentence without words gives an empty one.

        Args:
            on_batch: told the number of sentences of each batch when it is done.
        """
        ids = self._bundle.source.encode([sentence.strip() for sentence in sentences])
        translations = [""] * len(sentences)
        # Sentences of one length together: a batch takes as many steps as its longest needs.
        order = sorted((row for row, words in enumerate(ids) if words), key=lambda r: len(ids[r]))
        size = self.config.decode.batch_size
        on_batch(len(sentences) - len(order))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            for row, words in zip(rows, self._decode([ids[r] for r in rows]), strict=True):
                translations[row] = self._bundle.target.decode(words)
            on_batch(len(rows))
        return translations

    def _decode(self, ids: list[list[int]]) -> list[list[int]]:
        source = pad_sequence([torch.tensor(row) for row in ids], True, PAD)  # (B, S)
        lengths = torch.tensor([len(row) for row in ids])  # (B,)
        cap = self.config.decode.max_length
        return greedy(self._bundle.model, source.to(self._device), lengths, cap)
