"""Translate with an exported model, by ONNX Runtime alone: neither s2s nor torch is needed.

    s2s export model --to onnx --out exported
    pip install numpy onnxruntime tokenizers
    python examples/onnx_translate.py exported "I am cold." "Where are you?"

This is greedy decoding. `s2s translate` can also search with beams, splits texts into sentences,
copies unknown words, and ends translations that repeat themselves.
"""

import json
import re
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

JOIN = "\ue000"  # ends a translation that was cut off there


class OnnxTranslator:
    """Translates with the directory that `s2s export --to onnx` made."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        self.ids = self.manifest["special_ids"]
        self.spaceless_letters = self.manifest["spaceless_letters"]
        self.source = Tokenizer.from_file(str(folder / "source.json"))
        self.target = Tokenizer.from_file(str(folder / "target.json"))
        self.encoder = InferenceSession(folder / self.manifest["encoder"]["file"])
        self.step = InferenceSession(folder / self.manifest["step"]["file"])

    def translate(self, sentences: list[str]) -> list[str]:
        """Return the translations of sentences, each of which has a word."""
        lists = [self.encoded(sentence) for sentence in sentences]
        lengths = np.array([len(ids) for ids in lists])  # (sentences,)
        source = np.full((len(lists), lengths.max()), self.ids["pad"])
        for row, ids in zip(source, lists, strict=True):
            row[: len(ids)] = ids
        state = run(self.encoder, {"source": source, "lengths": lengths})
        tokens = np.full(len(lists), self.ids["sos"])
        steps = []
        for _ in range(self.manifest["decode"]["max_length"]):
            found = run(self.step, {"tokens": tokens, **state})
            state |= {name: found.get(f"next_{name}", part) for name, part in state.items()}
            found["logits"][:, [self.ids["pad"], self.ids["unk"], self.ids["sos"]]] = -np.inf
            tokens = found["logits"].argmax(1)
            steps.append(tokens)
            if (np.array(steps) == self.ids["eos"]).any(0).all():
                break
        return [self.spelled(row.tolist()) for row in np.array(steps).T]

    def encoded(self, sentence: str) -> list[int]:
        """Return the token ids of a sentence.

        A word with an unknown part is one unknown token, unless its script has no spaces.
        """
        found = self.source.encode(sentence)
        parts = zip(found.word_ids, found.ids, found.offsets, strict=True)
        unknown, special = self.ids["unk"], self.ids.values()
        ids: list[int] = []
        for _, word in groupby(parts, itemgetter(0)):
            _, tokens, spans = zip(*word, strict=True)
            known = [unknown if token in special else token for token in tokens]
            written = sentence[spans[0][0] : spans[-1][1]]
            is_whole = unknown in known and not re.search(self.spaceless_letters, written)
            ids += [unknown] if is_whole else known
        return ids

    def spelled(self, ids: list[int]) -> str:
        """Return the sentence that token ids spell up to their end."""
        ids = ids[: ids.index(self.ids["eos"])] if self.ids["eos"] in ids else ids
        return str(self.target.decode(ids, skip_special_tokens=False)).removesuffix(JOIN)


def run(graph: InferenceSession, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of a graph by their names."""
    names = [output.name for output in graph.get_outputs()]
    return dict(zip(names, graph.run(names, inputs), strict=True))


if __name__ == "__main__":
    for translation in OnnxTranslator(Path(sys.argv[1])).translate(sys.argv[2:]):
        print(translation)
