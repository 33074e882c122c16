"""s2s trains and serves LSTM sequence-to-sequence translators, on a laptop or a Ray cluster.

    import s2s

    translator = s2s.load("models/demo")
    translator.translate(["Who are you?"])

The names below are imported when they are first used, so `import s2s` alone loads neither torch nor
Ray.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2s.config import Config
    from s2s.corpus import Corpus
    from s2s.decoding.translator import Translator
    from s2s.model.directory import ModelDirectory
    from s2s.presets import PRESETS

__version__ = "0.1.0"

__all__ = ["PRESETS", "Config", "Corpus", "ModelDirectory", "Translator", "__version__", "load"]

_MODULES = {
    "Config": "s2s.config",
    "Corpus": "s2s.corpus",
    "ModelDirectory": "s2s.model.directory",
    "PRESETS": "s2s.presets",
    "Translator": "s2s.decoding.translator",
}


def load(directory: str | Path) -> "Translator":
    """Return the translator of a model directory, on the CPU.

    Raises:
        s2s.errors.BadInput: `directory` is not a complete model directory.
    """
    translator: type[Translator] = __getattr__("Translator")
    return translator.load(Path(directory))


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
