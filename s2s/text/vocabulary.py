"""Sentences to token ids and back, on Hugging Face tokenizers.

A sentence is normalised and split into words, and each word is one token or cut into several. A
`Vocabulary` wraps one tokenizer whose JSON file says all of this, and the way back, so that the
tokenizers library alone reads it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from tokenizers import Tokenizer, models, trainers

from s2s.config import TextConfig
from s2s.errors import BadInput
from s2s.text.normalise import JOIN, SPACE, START, Splitter, untrained_tokenizer

T = TypeVar("T")

PAD, UNK, SOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<sos>", "<eos>")
_WRITTEN = {PAD, SOS, EOS}  # which a user may write, but not mean

# Words that a trainer of parts of words is shown at most: the counts of a larger corpus are scaled.
_SHOWN = 50_000_000


class Vocabulary:
    """The words of one language, with the way to reach them from text and to go back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        numbers = tokenizer.get_vocab()
        self.words = sorted(numbers, key=numbers.__getitem__)
        (begun, _), *_ = tokenizer.pre_tokenizer.pre_tokenize_str("a")
        self._begin = begun[:-1]  # of every word, where words are cut into parts
        self._lowers = tokenizer.normalizer.normalize_str("A") == "a"

    @classmethod
    def learn(cls, sentences: Iterable[str], config: TextConfig) -> Self:
        """The vocabulary of some sentences."""
        splitter = Splitter(config)
        return cls.of(Counter(word for s in sentences for word in splitter.words(s)), config)

    @classmethod
    def of(cls, counts: Mapping[str, int], config: TextConfig) -> Self:
        """The vocabulary of words that occur so many times: specials first, then the others.

        Whole words stand by falling frequency, and those of equal frequency in the order of their
        code points, so the order of `counts` has no part in it.
        """
        tokenizer = untrained_tokenizer(config)
        size = config.vocabulary_size or len(counts)
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        if config.units == "word":
            kept = [
                word
                for word, n in ranked[:size]
                if n >= config.min_frequency and word not in SPECIALS
            ]
            # The specials are plain entries, never "added tokens": those would be looked for in
            # raw text, and a user who writes <eos> would end the sentence.
            entries = [*SPECIALS, *kept]
            tokenizer.model = models.WordLevel(
                {word: number for number, word in enumerate(entries)}, unk_token="<unk>"
            )
            return cls(tokenizer)
        bare = Tokenizer(tokenizer.model)
        bare.pre_tokenizer = tokenizer.pre_tokenizer
        common: dict[str, Any] = {
            "vocab_size": size + len(SPECIALS),
            "special_tokens": list(SPECIALS),
            "show_progress": False,
        }
        trainer = (
            trainers.BpeTrainer(min_frequency=config.min_frequency, **common)
            if config.units == "bpe"
            else trainers.UnigramTrainer(unk_token="<unk>", **common)
        )
        try:
            bare.train_from_iterator(_shown(ranked), trainer)
        except Exception as error:  # the library raises bare Exception for all its faults
            raise BadInput(f"text.vocabulary_size {size}: {error}") from None
        tokenizer.model = bare.model
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The vocabulary saved in a tokenizer file.

        Raises:
            BadInput: the file is absent or no tokenizer of this kind.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
            vocabulary = cls(tokenizer)
        except Exception as error:  # the library raises bare Exception for all its faults
            raise BadInput(f"{path}: no readable tokenizer ({error})") from None
        if tuple(vocabulary.words[: len(SPECIALS)]) != SPECIALS:
            raise BadInput(f"{path}: a tokenizer whose first words are not {' '.join(SPECIALS)}")
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the tokenizer file."""
        self._tokenizer.save(str(path))

    def __len__(self) -> int:
        """Number of ids, the specials included."""
        return len(self.words)

    def encode(self, sentences: list[str]) -> list[list[int]]:
        """Ids of each sentence's tokens, without `<sos>` or `<eos>`; unknown ones are `UNK`."""
        return [
            [UNK if i in _WRITTEN else i for i in encoded.ids] if "<" in sentence else encoded.ids
            for sentence, encoded in zip(
                sentences, self._tokenizer.encode_batch_fast(sentences), strict=True
            )
        ]

    def ids(self, words: list[str]) -> list[list[int]]:
        """Ids of each word's tokens, of words as a `Splitter` of the same settings gives them."""
        cut = self._tokenizer.model.tokenize
        return [
            [UNK if token.id in _WRITTEN else token.id for token in cut(self._begin + word)]
            for word in words
        ]

    def decode(self, ids: list[int], instead: Mapping[int, str] = MappingProxyType({})) -> str:
        """The sentence that ids spell, an unknown word as `<unk>`.

        Args:
            instead: what to write in some places, counted from 0, instead of the word there.
        """
        words = [self.words[i] for i in ids]
        for place, text in instead.items():
            words[place] = self._begin + text
        return self._spell(words)

    def surface(self, word: int) -> str:
        """A word, or part of one, without the marks of its spacing."""
        return _bare(self.words[word])

    def surface_tokens(self, sentence: str) -> list[str]:
        """What stands in a sentence for each of its tokens, as it is written there.

        A token is shown without the marks of its spacing, and the part of a word that is unknown as
        the whole word.
        """
        encoded = self._tokenizer.encode(sentence)
        whole = self.surface_words(sentence)
        return [
            _bare(word if self._lowers or i == UNK else self.words[i])
            for i, word in zip(encoded.ids, whole, strict=True)
        ]

    def surface_words(self, sentence: str) -> list[str]:
        """The whole word that each token of a sentence is of, as it is written there.

        It keeps the marks of its spacing, so that another sentence can take it over.
        """
        encoded = self._tokenizer.encode(sentence)
        if self._lowers:
            spans: dict[int | None, tuple[int, int]] = {}
            for place, (start, end) in zip(encoded.word_ids, encoded.offsets, strict=True):
                first, last = spans.get(place, (start, end))
                spans[place] = (min(first, start), max(last, end))
            return [sentence[slice(*spans[place])] for place in encoded.word_ids]
        normalised = self._tokenizer.normalizer.normalize_str(sentence)
        words = [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]
        return [words[place or 0].removeprefix(self._begin) for place in encoded.word_ids]

    def normalise(self, sentence: str) -> str:
        """The sentence as it would come back if every word of it were known."""
        normalised = self._tokenizer.normalizer.normalize_str(sentence)
        split = self._tokenizer.pre_tokenizer.pre_tokenize_str(normalised)
        return self._spell([word for word, _ in split])

    def _spell(self, words: list[str]) -> str:
        spelled: str = self._tokenizer.decoder.decode(words) if words else ""
        return spelled.removesuffix(JOIN)  # of a translation that was cut there


def _bare(word: str) -> str:
    """A token as a reader wants it; a space that is a token of its own stays one."""
    return word.replace(JOIN, "").replace(START, "").replace(SPACE, " ")


def _shown(ranked: list[tuple[str, int]]) -> Iterator[str]:
    """Words as often as they occur: the only way to tell a trainer of counts."""
    scale = max(1.0, sum(n for _, n in ranked) / _SHOWN)
    for word, n in ranked:
        times = max(1, round(n / scale))
        for shown in range(0, times, 1000):
            yield " ".join([word] * min(1000, times - shown))
