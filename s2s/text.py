"""Sentences to token ids and back, on Hugging Face tokenizers.

A `Vocabulary` wraps one word-level tokenizer whose JSON file says all: normaliser, word splitting,
words and decoder, so that the tokenizers library alone reads it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from s2s.config import TextConfig
from s2s.errors import BadInput

PAD, UNK, SOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<sos>", "<eos>")

# Two private-use characters carry spacing through the lossless form. A token that starts (ends)
# with JOIN had no space before (after) it; SPACE stands for a space that no word needs, such as a
# second one. They are the only characters that do not come back.
JOIN, SPACE = "\ue000", "\ue001"

_WORD = r"\p{L}\p{M}\p{N}"
# What follows the apostrophe of an English clitic: don't, it's, we're. Elsewhere (l'école) the
# apostrophe belongs to the word before it.
_CLITIC = rf"(?i:[stmd]|re|ve|ll)(?![{_WORD}])"


def _tutorial() -> Tokenizer:
    """Lower case, no accents, a space before `? . ! ,`, all but `a-z ! . ?` to spaces."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"(?=[?.!,])"), " "),
            normalizers.Replace(Regex(r"[^a-zA-Z!.?]+"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"\A"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(r"\A "), ""),
        ]
    )
    return tokenizer


def _lossless() -> Tokenizer:
    """Words, clitics and single marks, with joins that let the decoder rebuild the sentence.

    The join idea is OpenNMT Tokenizer's joiner annotation; here a mark carries it rather than a
    word wherever there is a choice, so that a word is one entry of the vocabulary.
    """
    before_mark = (
        rf"(?<=[^ ])(?=[^{_WORD} '’])"
        rf"|(?<=[^ ])(?=['’](?:{_CLITIC}|[^{_WORD}]|\z))"
        r"|(?<=[^ \p{L}])(?=['’])"
    )
    after_mark = (
        rf"(?<=[^{_WORD} '’{JOIN}])(?=[{_WORD}])"
        rf"|(?<=['’])(?!{_CLITIC})(?=[{_WORD}])"
    )
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\A | \z|(?<= ) "), SPACE),
            normalizers.Replace(Regex(before_mark), f" {JOIN}"),
            normalizers.Replace(Regex(after_mark), f"{JOIN} "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"\A"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(rf" {JOIN}|{JOIN} |\A "), ""),
            decoders.Replace(SPACE, " "),
        ]
    )
    return tokenizer


class Vocabulary:
    """The words of one language, with the way to reach them from text and to go back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        self._words = [word for word, _ in words]

    @classmethod
    def learn(cls, sentences: Iterable[str], config: TextConfig) -> Self:
        """The vocabulary of some sentences: specials first, then words by falling frequency.

        Words of equal frequency stand in alphabetical order (the trainer's own rule), so the same
        sentences in any order give the same vocabulary.
        """
        tokenizer = {"tutorial": _tutorial, "lossless": _lossless}[config.normaliser]()
        trainer = trainers.WordLevelTrainer(
            vocab_size=config.vocabulary_size or 2**31,
            min_frequency=config.min_frequency,
            show_progress=False,
        )
        tokenizer.train_from_iterator(sentences, trainer)
        words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        # The specials are plain entries, never "added tokens": those would be looked for in raw
        # text, and a user who writes <eos> would end the sentence.
        entries = [*SPECIALS, *(word for word, _ in words)]
        tokenizer.model = models.WordLevel(
            {word: i for i, word in enumerate(entries)}, unk_token="<unk>"
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The vocabulary saved in a tokenizer file.

        Raises:
            BadInput: the file is absent or no tokenizer of this kind.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for all its faults
            raise BadInput(f"{path}: no readable tokenizer ({error})") from None
        vocabulary = cls(tokenizer)
        if tuple(vocabulary._words[: len(SPECIALS)]) != SPECIALS:
            raise BadInput(f"{path}: a tokenizer whose first words are not {' '.join(SPECIALS)}")
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the tokenizer file."""
        self._tokenizer.save(str(path))

    def __len__(self) -> int:
        """Number of ids, the specials included."""
        return len(self._words)

    def encode(self, sentences: list[str]) -> list[list[int]]:
        """Ids of each sentence's words, without `<sos>` or `<eos>`; unknown words are `UNK`."""
        return [e.ids for e in self._tokenizer.encode_batch_fast(sentences)]

    def decode(self, ids: list[int]) -> str:
        """The sentence that ids spell, an unknown word as `<unk>`."""
        return self._spell([self._words[i] for i in ids])

    def normalise(self, sentence: str) -> str:
        """The sentence as it would come back if every word of it were known."""
        normalised = self._tokenizer.normalizer.normalize_str(sentence)
        split = self._tokenizer.pre_tokenizer.pre_tokenize_str(normalised)
        return self._spell([word for word, _ in split])

    def _spell(self, words: list[str]) -> str:
        spelled: str = self._tokenizer.decoder.decode(words) if words else ""
        return spelled
