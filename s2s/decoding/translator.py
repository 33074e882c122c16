"""A trained model as a function from sentences to sentences.

Shapes: B sentences, S source tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch

from s2s.config import Config, DecodeConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.decoding.runtime import network_of
from s2s.decoding.search import decode
from s2s.decoding.shortlist import Shortlist
from s2s.decoding.shortlisted import ShortlistedNetwork, full_output, load_shortlist
from s2s.decoding.translation import (
    SentenceTranslations,
    Translation,
    Translations,
    with_translations,
)
from s2s.devices import allow_tf32
from s2s.model.directory import ModelDirectory
from s2s.text.alignment import Link, word_links
from s2s.text.ragged import Ragged
from s2s.text.sentences import (
    Sentence,
    cut_to_length,
    has_lines,
    is_in_capitals,
    split_sentences,
)
from s2s.text.translatable import Translatable
from s2s.text.vocabulary import EOS, PAD, SPECIALS, UNK

# Source tokens of a part of a long sentence for each token that its translation may have: most
# translations are not longer by half.
_TARGET_ROOM = 2 / 3


class Translator:
    """Translates with the model of a model directory.

    Args:
        decode: settings instead of the model's own.

    Raises:
        BadInput: the settings ask for int8, which needs ONNX Runtime on a CPU, and that is not
            installed; or for a shortlist, and the directory has none, or an adaptive output layer.
    """

    def __init__(
        self,
        directory: ModelDirectory,
        decode: DecodeConfig | None = None,
    ) -> None:
        self._directory = directory
        self._settings = decode or directory.config.decode
        if self.device.type == "cuda":
            allow_tf32(self._settings.precision != "fp32")
        self._translatable = Translatable(
            directory.config.source_language, directory.source.tokens, len(SPECIALS)
        )
        # A model that cannot see capitals does not write them either.
        self._follows_capitals = directory.source.folds_case and not directory.target.folds_case
        self._shortlist: Shortlist | None = None
        if self._settings.shortlist is not None:
            self._shortlist = load_shortlist(directory)
        self._model = self._network()

    def _network(self) -> Network:
        """Return the network, without its output layer if a shortlist takes its place."""
        has_output = self._shortlist is None
        return network_of(self._directory, self._settings, output_layer=has_output)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the network may not be, and is made again of the directory."""
        return {name: value for name, value in self.__dict__.items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._model = self._network()

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """Load the translator of a model directory.

        Raises:
            BadInput: `path` is not a complete model directory.
        """
        return cls(ModelDirectory.load(path, device))

    def with_settings(self, **settings: object) -> Self:
        """Return a translator with other `DecodeConfig` settings; None leaves one as it is.

        Raises:
            BadInput: a setting is out of range, or does not go with another one.
        """
        changed = self._settings.changed(**settings)
        same_precision = changed.precision == self._settings.precision
        if not same_precision or (changed.shortlist is None) != (self._shortlist is None):
            return type(self)(self._directory, changed)
        other = type(self).__new__(type(self))
        other.__dict__ |= {**self.__dict__, "_settings": changed}  # with the same network
        return other

    @property
    def model(self) -> Network:
        """The network in the precision of the settings.

        With a shortlist, it is a new one each time, for the sentences of one batch, or for slots.
        """
        if self._shortlist is None or self._settings.shortlist is None:
            return self._model
        output = full_output(self._directory.model)
        return ShortlistedNetwork(self._model, output, self._shortlist, self._settings.shortlist)

    @property
    def directory(self) -> ModelDirectory:
        """The model directory, as it was loaded."""
        return self._directory

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self._directory.model.device

    @property
    def config(self) -> Config:
        """The model's config, with the settings that are used."""
        return self._directory.config.model_copy(update={"decode": self._settings})

    def __repr__(self) -> str:
        """Return what the translator translates, and with which model."""
        config = self.config
        weights = sum(weight.numel() for weight in self._directory.model.named_weights().values())
        return (
            f"<Translator {config.source_language} to {config.target_language}: "
            f"{weights:,} weights on {self.device}, {config.decode.method}>"
        )

    @overload
    def translate(self, texts: str, on_batch: Callable[[int], None] = ...) -> str: ...

    @overload
    def translate(
        self, texts: list[str], on_batch: Callable[[int], None] = ...
    ) -> Translations: ...

    def translate(
        self, texts: str | list[str], on_batch: Callable[[int], None] = lambda done: None
    ) -> str | Translations:
        """Translate a text, or several, sentence by sentence, as `split` has them.

        Translations stand where the sentences stood, with the white space between them. What has
        nothing to translate stays as it is.

        Args:
            on_batch: called after each batch with the number of texts that it completed.

        Returns:
            A string for a string, a list of translations for a list.

        Raises:
            TypeError: `texts` is neither.
        """
        if isinstance(texts, str):
            return self._translate(self.split([texts]), on_batch)[0]
        return self._translate(self.split(_texts(texts, "a str or a list of str")), on_batch)

    def translate_rows(
        self, rows: list[str], on_batch: Callable[[int], None] = lambda done: None
    ) -> Translations:
        """Translate sources of a corpus as they are, to compare the translations with its targets.

        Only a source of more than `decode.max_source` tokens is split, unless the settings ask for
        more. One without words has an empty translation.

        Args:
            on_batch: as `translate` has it.
        """
        # Rows are sentences: None does not split them.
        split = self._split(rows, every_sentence=self._settings.split_sentences is True)
        return self._translate(split, on_batch, wordless="")

    def translate_in_detail(self, texts: list[str]) -> list[list[SentenceTranslations]]:
        """Return the sentences of each text, as `split` has them, and what `hypotheses` gives."""
        split = self.split(texts)
        translated = [each.stripped for sentences in split for each in sentences if each.ids]
        return with_translations(split, self.hypotheses(translated))

    def split(self, texts: list[str]) -> list[list[Sentence]]:
        """Split each text into sentences.

        With `decode.split_sentences` off, a line is a sentence, unless it has more than
        `decode.max_source` tokens. A sentence of more tokens is cut into parts, each of which is a
        sentence then. One without a word to translate gets no tokens.
        """
        every_sentence = self._settings.split_sentences is not False
        return [
            [
                each if self._translatable(each.text, each.ids) else Sentence(each.text, [])
                for each in sentences
            ]
            for sentences in self._split(texts, every_sentence=every_sentence)
        ]

    def _split(self, texts: list[str], *, every_sentence: bool) -> list[list[Sentence]]:
        """Split each text into sentences.

        Args:
            every_sentence: else a text is split only if it has several lines or too many tokens.
        """
        # A byte order mark is left over from a file.
        texts = [text.strip().removeprefix("\ufeff").strip() for text in texts]
        language, longest = self._directory.config.source_language, self._settings.max_source
        encoded = self._directory.source.encode(list(map(_as_in_corpora, texts)))
        split: list[list[Sentence]] = []
        for text, ids in zip(texts, encoded, strict=True):
            sentences = [Sentence(text, ids)] * bool(text)
            if every_sentence or has_lines(text) or len(ids) > longest:
                pieces = split_sentences(text, language)
                if len(pieces) > 1:
                    sentences = self._encode(pieces)
            if any(len(each.ids) > self._longest_whole for each in sentences):
                sentences = [part for each in sentences for part in self._cut(each)]
            split.append(sentences)
        return split

    def _cut(self, sentence: Sentence) -> list[Sentence]:
        """Cut a sentence that is too long to be translated as a whole into parts that are not."""
        too_long = len(sentence.ids) > self._longest_whole
        if not too_long or not self._translatable(sentence.text, sentence.ids):
            return [sentence]
        room = int(self._settings.max_length * _TARGET_ROOM)
        return self._encode(
            cut_to_length(
                sentence.text,
                max(1, min(self._settings.max_source, room)),
                lambda pieces: [len(each.ids) for each in self._encode(pieces)],
            )
        )

    @property
    def _longest_whole(self) -> int:
        """Source tokens of the longest sentence that is translated as a whole.

        It may have as many as its translation: that of a longer one would be cut off.
        """
        return max(self._settings.max_source, self._settings.max_length)

    def _encode(self, pieces: list[str]) -> list[Sentence]:
        """Return pieces of a text as sentences."""
        encoded = self._directory.source.encode(list(map(_as_in_corpora, pieces)))
        return [Sentence(piece, ids) for piece, ids in zip(pieces, encoded, strict=True)]

    def _translate(
        self,
        split: list[list[Sentence]],
        on_batch: Callable[[int], None],
        *,
        wordless: str | None = None,
    ) -> Translations:
        """Translate texts that are split.

        Args:
            wordless: the translation of a sentence without tokens; None leaves it as it is.
        """
        owners = [text for text, sentences in enumerate(split) for _ in sentences]
        left = [len(sentences) for sentences in split]  # of each text, sentences to translate
        on_batch(left.count(0))

        def count(translated: list[int]) -> None:
            for sentence in translated:
                left[owners[sentence]] -= 1
            on_batch(sum(left[text] == 0 for text in {owners[s] for s in translated}))

        ids = [sentence.ids for sentences in split for sentence in sentences]
        found = iter(self._search(ids, count, details=False))
        translations: list[str] = []
        incomplete: list[int] = []
        for text, sentences in enumerate(split):
            parts: list[str] = []
            for sentence, hypotheses in zip(sentences, found, strict=False):
                if not hypotheses:
                    untranslated = sentence.stripped if wordless is None else wordless
                    parts.append(sentence.with_whitespace(untranslated))
                    continue
                best = self._best_text(sentence.stripped, hypotheses)
                parts.append(sentence.with_whitespace(best))
                if hypotheses[0].finish_reason != "stop":
                    incomplete.append(text)
            translations.append("".join(parts))
        return Translations(translations, list(dict.fromkeys(incomplete)))

    def links(
        self, sentence: str, ids: list[int], alignment: list[int] | None, translation: str
    ) -> list[Link]:
        """Return the links between the words of a translation and its sentence.

        Args:
            ids: tokens of the translation.
            alignment: of each id the source token that it stands for, if that is known.
            translation: the text of the ids.
        """
        sentence = _as_in_corpora(sentence)
        return word_links(
            sentence,
            [token.text for token in self._directory.source.written_tokens(sentence)],
            translation,
            [self._directory.target.surface(token) for token in ids],
            alignment,
        )

    def hypotheses(self, sentences: list[str]) -> list[list[Translation]]:
        """Return the `decode.n_best` translations of each sentence, best first, with all details.

        A sentence without words has one empty translation.

        Raises:
            TypeError: `sentences` is no list of strings.
        """
        sentences = list(map(_as_in_corpora, _texts(sentences, "a list of str")))
        ids = self._directory.source.encode(sentences)
        by_sentence = self._search(ids, lambda translated: None, details=True)
        return list(map(self.as_translations, sentences, by_sentence))

    def as_translations(self, sentence: str, hypotheses: list[Hypothesis]) -> list[Translation]:
        """Return what hypotheses of a sentence say; of none, an empty translation."""
        sentence = _as_in_corpora(sentence)
        source_words = [token.text for token in self._directory.source.written_tokens(sentence)]
        return [
            Translation(
                text=self._best_text(sentence, [hypothesis]),
                score=hypothesis.score,
                words=self._scored_tokens(hypothesis),
                word_scores=hypothesis.scores,
                source_words=source_words,
                attention=hypothesis.attention,
                finish_reason=hypothesis.finish_reason,
            )
            for hypothesis in hypotheses or [Hypothesis([], [], 0.0, None, None)]
        ]

    def detokenise(self, sentence: str, ids: list[int], alignment: list[int] | None) -> str:
        """Return the text of the ids that translate a sentence, in capitals if the sentence is.

        Args:
            alignment: of each id the source token that it stands for, if that is known: copied for
                unknown words where the settings ask for it. Without it, the unknown words of the
                sentence are copied in their order.
        """
        if self._settings.unknown == "copy" and UNK in ids:
            text = self._with_copies(sentence, ids, alignment)
        else:
            text = self._directory.target.decode(ids)
        in_capitals = self._follows_capitals and is_in_capitals(sentence)
        return text.upper() if in_capitals else text

    def _with_copies(self, sentence: str, ids: list[int], alignment: list[int] | None) -> str:
        """Return the text of ids with words of the sentence in the place of unknown ones.

        A bare mark is never copied: where the model looked at one, the nearest unknown word is, if
        there is one that was not copied yet. An unknown word without anything to copy is left out.
        """
        source = self._directory.source.written_tokens(_as_in_corpora(sentence))
        wordlike = {
            place for place, token in enumerate(source) if any(map(str.isalnum, token.word))
        }
        unknown = [place for place in sorted(wordlike) if source[place].id == UNK]
        kept: list[int] = []
        copied: dict[int, str] = {}
        for place, token in enumerate(ids):
            if token == UNK:
                attended = alignment[place] if alignment else None
                if attended not in wordlike:
                    attended = min(unknown, key=lambda p: abs(p - (attended or 0)), default=None)
                if attended is None:
                    continue
                unknown = [place for place in unknown if place != attended]
                copied[len(kept)] = source[attended].word
            kept.append(token)
        return self._directory.target.decode(kept, copied)

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
            source = torch.from_numpy(lists.pad(places, PAD)).to(self.device)  # (B, S)
            # Another seed for each batch, or all of them would draw the same.
            seed = (self._settings.seed + rows[0]) % 2**63
            settings = self._settings.model_copy(update={"seed": seed})
            batch = decode(self.model, source, lengths, settings, details)
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


def _as_in_corpora(sentence: str) -> str:
    """Return a sentence as the rows of a corpus are: trimmed, with spaces for tabs."""
    return sentence.strip().replace("\t", " ")


def _texts(texts: object, expected: str) -> list[str]:
    """Return texts, which may come one by one, as a list.

    Raises:
        TypeError: they are not the expected ones: strings in an order.
    """
    if isinstance(texts, str | Mapping | Set) or not isinstance(texts, Iterable):
        raise TypeError(f"{expected} is needed, not a {type(texts).__name__}")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"{expected} is needed, not a list of {type(text).__name__}")
    return listed
