"""The models that a replica serves, which can be exchanged while it answers."""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from s2s.errors import BadInput, Failed
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.process import EngineOptions, Host

_FILES = ("config.json", "model.safetensors", "source.json", "target.json")
_DEFAULT = EngineOptions()
_LOGGER = logging.getLogger("s2s.serving")


@dataclass(frozen=True, eq=False)
class Model:
    """A model directory that is served."""

    path: Path
    version: str  # the beginning of the hash of its files
    engine: EngineClient

    @property
    def name(self) -> str:
        """Its directory's."""
        return self.path.name

    @property
    def source(self) -> str:
        """The language that it translates from."""
        return self.engine.config.source_language

    @property
    def target(self) -> str:
        """The language that it translates to."""
        return self.engine.config.target_language

    @property
    def label(self) -> str:
        """What answers name it by."""
        return f"{quote(self.name)}@{self.version}"  # a header takes no other letters


class Models:
    """One model for each pair of languages.

    An exchange is atomic: requests go to the old models until the new ones are loaded, and what the
    old ones have taken they finish. If a new one cannot be loaded, the old ones stay.

    Args:
        start: starts the engine of a model directory.
        max_waiting: the greatest `weight` of texts that wait for a model.
        on_end: called when an engine has ended by itself.
    """

    def __init__(
        self,
        start: Callable[[Path], Host] = _DEFAULT.start,
        max_waiting: int = 1024,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.meters = Meters()
        self.failure: str | None = None  # why the last exchange did not happen
        self._start, self._max_waiting, self._on_end = start, max_waiting, on_end
        self._models: tuple[Model, ...] = ()
        self._exchange = threading.RLock()
        self._wanted = 0  # the latest exchange asked for
        self._numbers = threading.Lock()

    @property
    def all(self) -> tuple[Model, ...]:
        """Those that answer now; never changed, only replaced."""
        return self._models

    def serve(self, paths: Sequence[Path]) -> None:
        """Serve these model directories from now on, and no others. Takes as long as it takes.

        A directory whose files are what they were is not loaded again.

        Raises:
            BadInput: one of them is no model directory, or two are of the same languages.
        """
        with self._exchange:
            old = {(model.path, model.version): model for model in self._models}
            new: list[Model] = []
            try:
                for path in paths:
                    found = version(path)
                    new.append(old.get((path, found)) or self._loaded(path, found))
                _check_languages(new)
            except BaseException:
                _retire([model for model in new if model not in self._models])
                raise
            self.failure = None  # first, so that nobody is told of it beside the new models
            self._models, left = tuple(new), self._models
            _retire([model for model in left if model not in new])

    def serve_soon(self, paths: Sequence[Path]) -> None:
        """Begin to `serve` them in the background; what goes wrong is logged, and in `failure`.

        Of several exchanges that wait for each other only the last one happens.
        """
        with self._numbers:
            self._wanted += 1
            number = self._wanted

        def exchange() -> None:
            with self._exchange:  # who was asked for later may come first
                if number == self._wanted:
                    self._try(paths)

        threading.Thread(target=exchange, name="s2s-exchange", daemon=True).start()

    def _try(self, paths: Sequence[Path]) -> None:
        try:
            self.serve(paths)
            _LOGGER.warning("serving %s", ", ".join(model.label for model in self._models))
        except (BadInput, Failed) as error:
            self.failure = str(error)
            _LOGGER.error("the models stay what they were: %s", error)
        except BaseException as error:
            self.failure = f"{type(error).__name__}: {error}"
            _LOGGER.exception("the models stay what they were")

    @property
    def alive(self) -> bool:
        """Whether there are models, and all their engines run."""
        return bool(self._models) and all(model.engine.alive for model in self._models)

    def close(self) -> None:
        """End all engines once what they have taken is translated."""
        models, self._models = self._models, ()
        for model in models:
            model.engine.close()

    def _loaded(self, path: Path, found: str) -> Model:
        host = self._start(path)
        engine = EngineClient(host, self._max_waiting, self.meters, self._on_end)
        model = Model(path, found, engine)
        try:
            if version(path) != found:
                raise BadInput(f"{path} was written to while it was read")
        except BadInput:
            _retire([model])
            raise
        return model


def version(path: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a model directory's files.

    Raises:
        BadInput: one of them is absent.
    """
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            with (path / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise BadInput(f"{path / name}: {error.strerror}") from None
    return digest.hexdigest()[:12]


def _check_languages(models: Sequence[Model]) -> None:
    if not models:
        raise BadInput("no model directory to serve")
    seen: dict[tuple[str, str], Model] = {}
    for model in models:
        other = seen.setdefault((model.source, model.target), model)
        if other is not model:
            raise BadInput(
                f"{other.path} and {model.path} both translate {model.source} to {model.target}: "
                "serve one of them"
            )


def _retire(models: Sequence[Model]) -> None:
    """Close engines when they are done, without waiting for it."""
    for model in models:
        threading.Thread(target=model.engine.close, name="s2s-retire", daemon=True).start()
