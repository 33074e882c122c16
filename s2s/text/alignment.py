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
    begins = _begins(source, source_tokens)
    links: list[Link] = []
    if not begins:
        return links
    end = 0
    for place, token in enumerate(map(str.strip, target_tokens)):
        begin = target.find(token, end) if token else -1
        if begin < 0:
            continue
        if attended is None:
            place_in_source = (2 * place + 1) * len(begins) // (2 * len(target_tokens))
        else:
            place_in_source = min(attended[place], len(begins) - 1)
        inside_word = begin == end > 0 and target[begin - 1].isalnum() and token[0].isalnum()
        end = begin + len(token)
        if inside_word and links:  # a subword: nothing is put into a word
            links[-1] = (*links[-1][:2], end)
        else:
            links.append((begins[place_in_source], begin, end))
    return links


def _begins(text: str, tokens: list[str]) -> list[int]:
    """Return where each token begins; one that is not found, where the one before it does."""
    begins, begin, end = [], 0, 0
    for token in map(str.strip, tokens):
        found = text.find(token, end) if token else -1
        if found >= 0:
            begin, end = found, found + len(token)
        begins.append(begin)
    return begins
