"""s2s trains and serves LSTM sequence-to-sequence translators, on a laptop or a Ray cluster.

    import s2s

    corpus = s2s.prepare("pairs.tsv", "corpus", "en-fr")
    model = s2s.train(corpus, "model")
    s2s.load("model").translate("Who are you?")

The names below are imported when they are first used, so `import s2s` alone loads neither torch nor
Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2s.api import evaluate, load, prepare, train
    from s2s.config import Config
    from s2s.corpus import Corpus
    from s2s.decoding.translator import Translator
    from s2s.model.directory import ModelDirectory
    from s2s.presets import PRESETS

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Config",
    "Corpus",
    "ModelDirectory",
    "Translator",
    "__version__",
    "evaluate",
    "load",
    "prepare",
    "train",
]

_MODULES = {
    "Config": "s2s.config",
    "Corpus": "s2s.corpus",
    "ModelDirectory": "s2s.model.directory",
    "PRESETS": "s2s.presets",
    "Translator": "s2s.decoding.translator",
    "evaluate": "s2s.api",
    "load": "s2s.api",
    "prepare": "s2s.api",
    "train": "s2s.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
