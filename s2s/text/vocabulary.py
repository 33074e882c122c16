"""Vocabularies: sentences to token ids and back, on Hugging Face tokenizers.

A sentence is normalised and split into words; a word is one token, or is split into several
subwords. A `Vocabulary` wraps one tokenizer whose JSON file contains all of this and the way back,
so the tokenizers library alone can read it. Only where a word has a character that no subword has,
`Vocabulary` makes one unknown token of its subwords, so that the word can be copied as a whole. In
scripts without spaces between words, where what stands between spaces is a clause, the character
alone is unknown.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from tokenizers import Encoding, Tokenizer, models, trainers

from s2s.config import TextConfig
from s2s.errors import BadInput
from s2s.text.normalise import JOIN, SPACE, START, Side, WordSplitter, untrained_tokenizer
from s2s.text.scripts import has_spaceless_letters

PAD, UNK, SOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<sos>", "<eos>")
_RESERVED = {PAD, SOS, EOS}  # ids that no text encodes to, even if it contains "<eos>"
_UNKNOWN = {*_RESERVED, UNK}  # ids of what is encoded as unknown

# Running words that a subword trainer sees at most; the counts of a larger corpus are scaled down.
_MAX_TRAINER_WORDS = 50_000_000


class WrittenToken(NamedTuple):
    """A token of a sentence, and the text that it stands for there."""

    id: int
    word: str
    """The whole word that it belongs to, as it is written. In lossless text the word keeps the
    characters that encode its spacing, so it can be copied into another sentence."""
    text: str
    """The token itself, as it is written, without those characters."""


class Vocabulary:
    """The tokens of a language, with encoding of text to their ids and decoding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.tokens = sorted(ids, key=ids.__getitem__)  # in the order of their ids
        (first_chunk, _), *_ = tokenizer.pre_tokenizer.pre_tokenize_str("a")
        self._word_start = first_chunk[:-1]  # START if words are split into subwords, else ""
        self._spellings = list(self.tokens)  # of each id, what decoding writes
        self._spellings[UNK] = self._word_start + SPECIALS[UNK]
        self.folds_case = tokenizer.normalizer.normalize_str("A") == "a"
        # Whether words are not as they are written, so that they are looked up in the text.
        self._rewrites = "\u00ad" not in tokenizer.normalizer.normalize_str("\u00ada")

    @classmethod
    def learn(cls, sentences: Iterable[str], config: TextConfig, side: Side = "target") -> Self:
        """Return the vocabulary of some sentences.

        Raises:
            BadInput: `config.vocabulary_size` cannot be reached.
        """
        splitter = WordSplitter(config, side)
        counts = Counter(word for sentence in sentences for word in splitter.split(sentence))
        return cls.from_counts(counts, config, side)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], config: TextConfig, side: Side = "target"
    ) -> Self:
        """Return the vocabulary of words with these frequencies: specials first, then the others.

        Whole words come in the order of falling frequency, and words of equal frequency in the
        order of their code points, so the order of `counts` does not matter.

        Raises:
            BadInput: `config.vocabulary_size` cannot be reached.
        """
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        tokenizer = untrained_tokenizer(config, side)
        if config.units == "word":
            tokenizer.model = _word_model(ranked, config)
        else:
            tokenizer.model = _train_subword_model(tokenizer, ranked, config)
        return cls(tokenizer)

    def of_side(self, config: TextConfig, side: Side) -> Self:
        """Return a vocabulary of the same tokens for a side, which may be normalised otherwise."""
        tokenizer = untrained_tokenizer(config, side)
        tokenizer.model = self._tokenizer.model
        return type(self)(tokenizer)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the vocabulary from a tokenizer file.

        Raises:
            BadInput: the file is missing or is not a tokenizer of this kind.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
            vocabulary = cls(tokenizer)
        except Exception as error:  # the library raises bare Exception for all its faults
            raise BadInput(f"{path}: not a readable tokenizer ({error})") from None
        if tuple(vocabulary.tokens[: len(SPECIALS)]) != SPECIALS:
            raise BadInput(
                f"{path}: the first tokens of the tokenizer are not {' '.join(SPECIALS)}"
            )
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the tokenizer file."""
        self._tokenizer.save(str(path))

    def __len__(self) -> int:
        """Return the number of tokens, specials included."""
        return len(self.tokens)

    def encode(self, sentences: list[str]) -> list[list[int]]:
        """Return the token ids of each sentence, without `<sos>` and `<eos>`.

        An unknown word has the id `UNK`.
        """
        return [
            self._known_ids(encoded, sentence)
            for sentence, encoded in zip(
                sentences, self._tokenizer.encode_batch_fast(sentences), strict=True
            )
        ]

    def _known_ids(self, encoded: Encoding, sentence: str) -> list[int]:
        """Return the ids of a sentence, of which each unknown word has one."""
        ids: list[int] = encoded.ids
        if self._word_start:
            if _UNKNOWN.isdisjoint(ids):
                return ids
            return [token.id for token in self.written_tokens(sentence)]
        return [UNK if i in _RESERVED else i for i in ids] if "<" in sentence else ids

    def encode_words(self, words: list[str]) -> list[list[int]]:
        """Return the token ids of each word.

        Args:
            words: words as a `WordSplitter` of the same settings returns them.
        """
        tokenize = self._tokenizer.model.tokenize
        ids_of_words = []
        for word in words:
            ids = [token.id for token in tokenize(self._word_start + word)]
            if not _UNKNOWN.isdisjoint(ids):
                in_pieces = has_spaceless_letters(word)
                ids = [UNK if i in _RESERVED else i for i in ids] if in_pieces else [UNK]
            ids_of_words.append(ids)
        return ids_of_words

    def decode(self, ids: list[int], replacements: Mapping[int, str] = MappingProxyType({})) -> str:
        """Return the sentence that token ids spell; an unknown token is spelled `<unk>`.

        Args:
            replacements: words to write instead of some tokens, by the position of the token in
                `ids`, from 0.
        """
        tokens = [self._spellings[i] for i in ids]
        for position, word in replacements.items():
            tokens[position] = word if has_spaceless_letters(word) else self._word_start + word
        return self._detokenise(tokens)

    def surface(self, token_id: int) -> str:
        """Return a token as readers see it: without the characters that encode its spacing."""
        return without_spacing(self.tokens[token_id])

    def written_tokens(self, sentence: str) -> list[WrittenToken]:
        """Return the tokens of a sentence, and the text that each of them stands for there."""
        encoded = self._tokenizer.encode(sentence)
        ids = [UNK if i in _RESERVED else i for i in encoded.ids]
        numbers = [number or 0 for number in encoded.word_ids]
        words = self._written_words(sentence, numbers, encoded.offsets)
        unknown = {number for i, number in zip(ids, numbers, strict=True) if i == UNK}
        whole = {number for number in unknown if not has_spaceless_letters(words[number])}
        tokens: list[WrittenToken] = []
        previous = None
        for i, number, span in zip(ids, numbers, encoded.offsets, strict=True):
            word, written = words[number], sentence[slice(*span)]
            if number in whole:
                if number != previous:
                    tokens.append(WrittenToken(UNK, word, self._shown(word)))
            elif i == UNK:
                tokens.append(WrittenToken(UNK, written, written))
            elif self.tokens[i] == START:
                tokens.append(WrittenToken(i, word, ""))
            else:
                shown = written if self._rewrites else without_spacing(self.tokens[i])
                tokens.append(WrittenToken(i, word, shown))
            previous = number
        return tokens

    def _shown(self, word: str) -> str:
        """Return a written word without the characters that encode its spacing."""
        return word if self._rewrites else without_spacing(word)

    def _written_words(
        self, sentence: str, numbers: list[int], offsets: list[tuple[int, int]]
    ) -> dict[int, str]:
        """Return the words of a sentence by their numbers, as they are written there.

        Args:
            numbers: of each token, that of its word.
            offsets: of each token, where it begins and ends in the sentence.
        """
        if not self._rewrites:
            words = [word.removeprefix(self._word_start) for word in self._pre_tokenize(sentence)]
            return dict(enumerate(words))
        spans: dict[int, tuple[int, int]] = {}
        for number, (start, end) in zip(numbers, offsets, strict=True):
            first, last = spans.get(number, (start, end))
            spans[number] = (min(first, start), max(last, end))
        return {number: sentence[slice(*span)] for number, span in spans.items()}

    def normalise(self, sentence: str) -> str:
        """Return the sentence as decoding would give it back if every token of it were known."""
        return self._detokenise(self._pre_tokenize(sentence))

    def _pre_tokenize(self, sentence: str) -> list[str]:
        normalised = self._tokenizer.normalizer.normalize_str(sentence)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]

    def _detokenise(self, tokens: list[str]) -> str:
        text: str = self._tokenizer.decoder.decode(tokens) if tokens else ""
        return text.removesuffix(JOIN)  # which ends a translation that was cut off there


def without_spacing(token: str) -> str:
    """Return a token without the characters that encode its spacing; SPACE becomes a space."""
    return token.replace(JOIN, "").replace(START, "").replace(SPACE, " ")


def _word_model(ranked: list[tuple[str, int]], config: TextConfig) -> models.WordLevel:
    words = [
        word
        for word, count in ranked[: config.vocabulary_size]
        if count >= config.lowest_frequency and word not in SPECIALS
    ]
    # The specials are plain entries, never "added tokens": the library looks for those in raw text,
    # and a user who writes <eos> would end the sentence.
    ids = {token: i for i, token in enumerate([*SPECIALS, *words])}
    return models.WordLevel(ids, unk_token="<unk>")


def _train_subword_model(
    tokenizer: Tokenizer, ranked: list[tuple[str, int]], config: TextConfig
) -> models.BPE | models.Unigram:
    trained = Tokenizer(tokenizer.model)  # without the normaliser: the words are normalised already
    trained.pre_tokenizer = tokenizer.pre_tokenizer
    size = config.vocabulary_size or len(ranked)
    scale = _scale(ranked)
    common: dict[str, Any] = {
        "vocab_size": size + len(SPECIALS),
        "special_tokens": list(SPECIALS),
        "show_progress": False,
    }
    trainer = (
        trainers.BpeTrainer(min_frequency=max(1, round(config.lowest_frequency / scale)), **common)
        if config.units == "bpe"
        else trainers.UnigramTrainer(unk_token="<unk>", **common)
    )
    try:
        trained.train_from_iterator(_repeated(ranked, scale), trainer)
    except Exception as error:  # the library raises bare Exception for all its faults
        raise BadInput(f"text.vocabulary_size {size}: {error}") from None
    model: models.BPE | models.Unigram = trained.model
    return model


def _scale(ranked: list[tuple[str, int]]) -> float:
    """Return by what the counts of words are divided for a trainer."""
    return max(1.0, sum(count for _, count in ranked) / _MAX_TRAINER_WORDS)


def _repeated(ranked: list[tuple[str, int]], scale: float) -> Iterator[str]:
    """Yield each word as often as it occurs, the only form in which a trainer takes counts.

    Args:
        scale: what the counts are divided by.
    """
    for word, count in ranked:
        times = max(1, round(count / scale))
        for done in range(0, times, 1000):
            yield " ".join([word] * min(1000, times - done))
