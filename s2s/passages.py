"""Long texts as sentences, which is what a model was trained on, and back."""

import sentencex


def pieces(text: str, language: str) -> list[str]:
    """The sentences of a text, each with the space around it: joined, they are the text.

    By sentencex (Wikimedia), which knows the abbreviations of many languages; a text in a language
    that it does not know is cut at line breaks alone.
    """
    cut: list[str] = []
    for line in text.splitlines(keepends=True):
        cut += sentencex.segment(language, line) if line.strip() else [line]
    return cut


def put_back(piece: str, translation: str) -> str:
    """The translation of a piece with the piece's own space around it."""
    core = piece.strip()
    begin = piece.find(core)
    return piece[:begin] + translation + piece[begin + len(core) :]
