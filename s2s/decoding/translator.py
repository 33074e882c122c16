"""A trained model as a function from sentences to sentences."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch

from s2s.config import Config, DecodeConfig
from s2s.corpus.batches import pad
from s2s.decoding.output_layer import OutputLayer
from s2s.decoding.search import Hypothesis, decode
from s2s.decoding.translation import Translation
from s2s.devices import allow_tf32
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.ragged import Ragged
from s2s.text.sentences import Sentence, split_sentences
from s2s.text.vocabulary import EOS, SPECIALS, UNK

Told = Callable[[int], None]


class Translator:
    """Translates with the model of a model directory.

    Args:
        decode: how, instead of the model's own settings.
    """

    def __init__(
        self,
        directory: ModelDirectory,
        device: torch.device | str = "cpu",
        decode: DecodeConfig | None = None,
    ) -> None:
        self._directory = directory
        self._device = torch.device(device)
        self._decode = decode or directory.config.decode
        # The directory's own model stays what it is, and shares its weights.
        shared = {id(weight): weight for weight in directory.model.parameters()}
        self._model = copy.deepcopy(directory.model, shared)
        if self._device.type == "cuda":
            allow_tf32(self._decode.precision != "fp32")
        dtype = torch.bfloat16 if self._decode.precision == "bf16" else torch.float32
        self._model.decoder.add_module("output", OutputLayer(directory.model.decoder.output, dtype))

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """The translator of a model directory.

        Raises:
            BadInput: `path` is no complete model directory.
        """
        return cls(ModelDirectory.load(path, device), device)

    def with_settings(self, **settings: object) -> Self:
        """The same translator with other `DecodeConfig` settings; None leaves one as it is.

        Raises:
            BadInput: a setting is out of range, or does not go with another one.
        """
        decode = self._decode.changed(**settings)
        if decode.precision != self._decode.precision:
            return type(self)(self._directory, self._device, decode)
        other = copy.copy(self)  # of the same weights
        other._decode = decode
        return other

    @property
    def model(self) -> Seq2Seq:
        """The network, with the output layer in the precision of the settings."""
        return self._model

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._device

    @property
    def config(self) -> Config:
        """The model's config, with the settings that are used."""
        return self._directory.config.model_copy(update={"decode": self._decode})

    def translate(self, texts: list[str], on_batch: Told = lambda texts: None) -> list[str]:
        """A translation for each text; a text without words gives an empty one.

        A text of several lines, or of more tokens than `decode.max_source`, is cut into sentences,
        and their translations are put where they were.

        Args:
            on_batch: told how many more texts are done when a batch is.
        """
        cut = self.split(texts)
        owners = [text for text, pieces in enumerate(cut) for _ in pieces]
        left = [len(pieces) for pieces in cut]
        on_batch(left.count(0))

        def done(pieces: list[int]) -> None:
            for piece in pieces:
                left[owners[piece]] -= 1
            on_batch(sum(left[text] == 0 for text in {owners[piece] for piece in pieces}))

        ids = [piece.ids for pieces in cut for piece in pieces]
        found = iter(self._decoded(ids, done, details=False))
        return [
            "".join(
                piece.with_whitespace(self._text(piece.stripped, next(found))) for piece in pieces
            )
            for pieces in cut
        ]

    def split(self, texts: list[str]) -> list[list[Sentence]]:
        """The sentences of each text: one, unless it has several lines or too many tokens."""
        texts = [text.strip() for text in texts]
        longest, language = self._decode.max_source, self._directory.config.source_language
        whole = self._directory.source.encode(texts)
        cut: list[list[Sentence]] = []
        for text, ids in zip(texts, whole, strict=True):
            if "\n" in text or "\r" in text or len(ids) > longest:
                parts = split_sentences(text, language)
                if parts == [text]:
                    cut.append([Sentence(text, ids)])
                    continue
                each = self._directory.source.encode([part.strip() for part in parts])
                cut.append([Sentence(part, own) for part, own in zip(parts, each, strict=True)])
            else:
                cut.append([Sentence(text, ids)] * bool(text))
        return cut

    def hypotheses(self, sentences: list[str]) -> list[list[Translation]]:
        """The `decode.n_best` translations of each sentence, best first, with all that is known.

        A sentence without words has one empty translation.
        """
        sentences = [sentence.strip() for sentence in sentences]
        ids = self._directory.source.encode(sentences)
        found = self._decoded(ids, lambda parts: None, details=True)
        told = []
        for sentence, hypotheses in zip(sentences, found, strict=True):
            source_words = self._directory.source.surface_tokens(sentence)
            told.append(
                [
                    Translation(
                        text=self._text(sentence, [hypothesis]),
                        score=hypothesis.score,
                        words=self._said(hypothesis),
                        word_scores=hypothesis.scores,
                        source_words=source_words,
                        attention=hypothesis.attention,
                    )
                    for hypothesis in hypotheses or [Hypothesis([], [], 0.0, None, None)]
                ]
            )
        return told

    def _decoded(
        self, ids: list[list[int]], done: Callable[[list[int]], None], *, details: bool
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each sentence, none of one without words."""
        found: list[list[Hypothesis]] = [[] for _ in ids]
        # Sentences of one length together: a batch takes as many steps as its longest needs.
        order = sorted((row for row, words in enumerate(ids) if words), key=lambda r: len(ids[r]))
        done([row for row, words in enumerate(ids) if not words])
        lists = Ragged.from_lists(ids)
        for rows in self._batches(order, ids):
            places = np.array(rows)
            lengths = torch.from_numpy(lists.lengths[places])  # (B,)
            source = pad(lists, places).to(self._device)  # (B, S)
            # What is drawn for a batch must not be drawn for the next one, too.
            how = self._decode.model_copy(update={"seed": (self._decode.seed + rows[0]) % 2**63})
            made = decode(self._model, source, lengths, how, details)
            for row, hypotheses in zip(rows, made, strict=True):
                found[row] = hypotheses
            done(rows)
        return found

    def _batches(self, order: list[int], ids: list[list[int]]) -> Iterator[list[int]]:
        """Rows that are translated together, in an order by length.

        A batch of long sentences has fewer of them: its memory is that of its longest one, often.
        """
        size, room = self._decode.batch_size, self._decode.batch_size * self._decode.max_source
        batch: list[int] = []
        for row in order:
            if len(batch) == size or (batch and (len(batch) + 1) * len(ids[row]) > room):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _text(self, sentence: str, hypotheses: list[Hypothesis]) -> str:
        """The text of the best hypothesis, if there is one, of a sentence."""
        if not hypotheses:
            return ""
        return self.detokenise(sentence, hypotheses[0].words, hypotheses[0].looked)

    def detokenise(self, sentence: str, words: list[int], looked: list[int] | None) -> str:
        """The text of words that translate a sentence.

        Args:
            looked: for each word, the source token that it is of, if that is known: what is put in
                the place of unknown words, where the settings ask for it.
        """
        copied = {}
        if self._decode.unknown == "copy" and looked is not None and UNK in words:
            source = self._directory.source.surface_words(sentence)
            copied = {
                place: source[looked[place]] for place, word in enumerate(words) if word == UNK
            }
        return self._directory.target.decode(words, copied)

    def _said(self, hypothesis: Hypothesis) -> list[str]:
        shown = [self._directory.target.surface(word) for word in hypothesis.words]
        ended = len(hypothesis.scores) > len(hypothesis.words)
        return [*shown, SPECIALS[EOS]] if ended else shown
