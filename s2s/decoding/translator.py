"""A trained model as a function from sentences to sentences.

Shapes: B sentences, S source tokens.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch

from s2s.config import Config, DecodeConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.output_layer import OutputLayer
from s2s.decoding.search import decode
from s2s.decoding.translation import Translation
from s2s.devices import allow_tf32
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.ragged import Ragged
from s2s.text.sentences import Sentence, split_sentences
from s2s.text.vocabulary import EOS, PAD, SPECIALS, UNK


class Translator:
    """Translates with the model of a model directory.

    Args:
        decode: settings instead of the model's own.
    """

    def __init__(
        self,
        directory: ModelDirectory,
        device: torch.device | str = "cpu",
        decode: DecodeConfig | None = None,
    ) -> None:
        self._directory = directory
        self._device = torch.device(device)
        self._settings = decode or directory.config.decode
        # The directory's own model stays as it is, and shares its weights.
        shared = {id(weight): weight for weight in directory.model.parameters()}
        self._model = copy.deepcopy(directory.model, shared)
        if self._device.type == "cuda":
            allow_tf32(self._settings.precision != "fp32")
        dtype = torch.bfloat16 if self._settings.precision == "bf16" else torch.float32
        self._model.decoder.add_module("output", OutputLayer(directory.model.decoder.output, dtype))

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """Load the translator of a model directory.

        Raises:
            BadInput: `path` is no complete model directory.
        """
        return cls(ModelDirectory.load(path, device), device)

    def with_settings(self, **settings: object) -> Self:
        """Return a translator with other `DecodeConfig` settings; None leaves one as it is.

        Raises:
            BadInput: a setting is out of range, or does not go with another one.
        """
        changed = self._settings.changed(**settings)
        if changed.precision != self._settings.precision:
            return type(self)(self._directory, self._device, changed)
        other = copy.copy(self)  # of the same weights
        other._settings = changed
        return other

    @property
    def model(self) -> Seq2Seq:
        """The network, with the output layer in the precision of the settings."""
        return self._model

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self._device

    @property
    def config(self) -> Config:
        """The model's config, with the settings that are used."""
        return self._directory.config.model_copy(update={"decode": self._settings})

    def translate(
        self, texts: list[str], on_batch: Callable[[int], None] = lambda done: None
    ) -> list[str]:
        """Translate texts; a text without words gives an empty one.

        A text of several lines, or of more tokens than `decode.max_source`, is split into
        sentences, whose translations stand where the sentences stood.

        Args:
            on_batch: called after each batch with the number of texts that it completed.
        """
        split = self.split(texts)
        owners = [text for text, sentences in enumerate(split) for _ in sentences]
        left = [len(sentences) for sentences in split]  # of each text, sentences to translate
        on_batch(left.count(0))

        def count(translated: list[int]) -> None:
            for sentence in translated:
                left[owners[sentence]] -= 1
            on_batch(sum(left[text] == 0 for text in {owners[s] for s in translated}))

        ids = [sentence.ids for sentences in split for sentence in sentences]
        hypotheses = iter(self._search(ids, count, details=False))
        return [
            "".join(
                sentence.with_whitespace(self._best_text(sentence.stripped, next(hypotheses)))
                for sentence in sentences
            )
            for sentences in split
        ]

    def split(self, texts: list[str]) -> list[list[Sentence]]:
        """Split each text into sentences: one, unless it has several lines or too many tokens."""
        texts = [text.strip() for text in texts]
        longest, language = self._settings.max_source, self._directory.config.source_language
        encoded = self._directory.source.encode(texts)
        split: list[list[Sentence]] = []
        for text, ids in zip(texts, encoded, strict=True):
            if "\n" in text or "\r" in text or len(ids) > longest:
                parts = split_sentences(text, language)
                if parts == [text]:
                    split.append([Sentence(text, ids)])
                    continue
                each = self._directory.source.encode([part.strip() for part in parts])
                split.append([Sentence(part, own) for part, own in zip(parts, each, strict=True)])
            else:
                split.append([Sentence(text, ids)] * bool(text))
        return split

    def hypotheses(self, sentences: list[str]) -> list[list[Translation]]:
        """Return the `decode.n_best` translations of each sentence, best first, with all details.

        A sentence without words has one empty translation.
        """
        sentences = [sentence.strip() for sentence in sentences]
        ids = self._directory.source.encode(sentences)
        by_sentence = self._search(ids, lambda translated: None, details=True)
        translations = []
        for sentence, hypotheses in zip(sentences, by_sentence, strict=True):
            source_words = self._directory.source.surface_tokens(sentence)
            translations.append(
                [
                    Translation(
                        text=self._best_text(sentence, [hypothesis]),
                        score=hypothesis.score,
                        words=self._scored_tokens(hypothesis),
                        word_scores=hypothesis.scores,
                        source_words=source_words,
                        attention=hypothesis.attention,
                    )
                    for hypothesis in hypotheses or [Hypothesis([], [], 0.0, None, None)]
                ]
            )
        return translations

    def detokenise(self, sentence: str, ids: list[int], alignment: list[int] | None) -> str:
        """Return the text of the ids that translate a sentence.

        Args:
            alignment: of each id the source token that it stands for, if that is known: copied for
                unknown words where the settings ask for it.
        """
        copied = {}
        if self._settings.unknown == "copy" and alignment is not None and UNK in ids:
            source = self._directory.source.surface_words(sentence)
            copied = {place: source[alignment[place]] for place, i in enumerate(ids) if i == UNK}
        return self._directory.target.decode(ids, copied)

    def _search(
        self, ids: list[list[int]], on_batch: Callable[[list[int]], None], *, details: bool
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each sentence, none of one without tokens.

        Args:
            on_batch: called after each batch with the places of its sentences.
        """
        by_sentence: list[list[Hypothesis]] = [[] for _ in ids]
        # Sentences of one length together: a batch takes as many steps as its longest needs.
        order = sorted((row for row, own in enumerate(ids) if own), key=lambda row: len(ids[row]))
        on_batch([row for row, own in enumerate(ids) if not own])
        lists = Ragged.from_lists(ids)
        for rows in self._batches(order, ids):
            places = np.array(rows)
            lengths = torch.from_numpy(lists.lengths[places])  # (B,)
            source = torch.from_numpy(lists.pad(places, PAD)).to(self._device)  # (B, S)
            # Another seed for each batch, or all of them would draw the same.
            seed = (self._settings.seed + rows[0]) % 2**63
            settings = self._settings.model_copy(update={"seed": seed})
            batch = decode(self._model, source, lengths, settings, details)
            for row, hypotheses in zip(rows, batch, strict=True):
                by_sentence[row] = hypotheses
            on_batch(rows)
        return by_sentence

    def _batches(self, order: list[int], ids: list[list[int]]) -> Iterator[list[int]]:
        """Yield rows that are translated together, of an order by length.

        Batches of long sentences have fewer of them: the memory of a batch grows with its longest.
        """
        size = self._settings.batch_size
        max_tokens = size * self._settings.max_source  # of a batch, with padding
        batch: list[int] = []
        for row in order:
            if len(batch) == size or (batch and (len(batch) + 1) * len(ids[row]) > max_tokens):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _best_text(self, sentence: str, hypotheses: list[Hypothesis]) -> str:
        """Return the text of a sentence's first hypothesis, or an empty one if there is none."""
        if not hypotheses:
            return ""
        return self.detokenise(sentence, hypotheses[0].ids, hypotheses[0].alignment)

    def _scored_tokens(self, hypothesis: Hypothesis) -> list[str]:
        """Return the tokens of a hypothesis as text, with `<eos>` if it ended in it."""
        tokens = [self._directory.target.surface(token) for token in hypothesis.ids]
        has_eos = len(hypothesis.scores) > len(hypothesis.ids)
        return [*tokens, SPECIALS[EOS]] if has_eos else tokens
