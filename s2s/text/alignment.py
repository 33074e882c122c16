"""Which part of a sentence each word of its translation stands for."""

from typing import NamedTuple

Link = tuple[int, int, int]
"""Where a source token begins, and where the target token that stands for it begins and ends."""


class Alignment(NamedTuple):
    """A sentence of a text and its translation, and how their words correspond.

    Places in links are those in the sentence and in its translation.
    """

    source: int  # place of the sentence in the text
    target: int  # place of its translation in the translated text
    length: int  # characters of the translation
    links: list[Link]  # in the order of the translation; none if it is the sentence itself


def word_links(
    source: str,
    source_tokens: list[str],
    target: str,
    target_tokens: list[str],
    attended: list[int] | None,
) -> list[Link]:
    """Return the links of a sentence and its translation.

    Args:
        source_tokens: tokens as they are written in `source`, in order.
        target_tokens: tokens as they are written in `target`; those that are not there are skipped.
        attended: for each target token the place of the source token of greatest weight; without
            it, tokens correspond by their positions.
    """
    if target.isupper():  # a translation may have been put in capitals
        target_tokens = [token.upper() for token in target_tokens]
    begins = _begins(source, source_tokens)
    links: list[Link] = []
    if not begins:
        return links
    end, longest = 0, 0
    for place, token in enumerate(map(str.strip, target_tokens)):
        begin = target.find(token, end) if token else -1
        if begin < 0:
            continue
        if attended is None:
            place_in_source = (2 * place + 1) * len(begins) // (2 * len(target_tokens))
        else:
            place_in_source = min(attended[place], len(begins) - 1)
        inside_word = begin == end > 0 and _joins(target[begin - 1]) and _joins(token[0])
        end, source_begin = begin + len(token), begins[place_in_source]
        if inside_word and links:  # nothing is put into a word, whose longest token decides
            before, word_begin, _ = links[-1]
            links[-1] = (source_begin if len(token) > longest else before, word_begin, end)
            longest = max(longest, len(token))
        else:
            links.append((source_begin, begin, end))
            longest = len(token)
    return links


def _joins(character: str) -> bool:
    """Return whether a character is one of a word, such as "grand-père" and "l'école"."""
    return character.isalnum() or character in "-'’"


def _begins(text: str, tokens: list[str]) -> list[int]:
    """Return where each token begins; one that is not found, where the one before it does."""
    begins, begin, end = [], 0, 0
    for token in map(str.strip, tokens):
        found = text.find(token, end) if token else -1
        if found >= 0:
            begin, end = found, found + len(token)
        begins.append(begin)
    return begins
