"""The models that a replica serves, which can be replaced while it answers."""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from s2s.errors import BadInput, Failed
from s2s.mirrors import local_copy
from s2s.serving.engine.client import MAX_WAITING, EngineClient
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.process import EngineOptions, EngineProcess

_FILES = ("config.json", "model.safetensors", "source.json", "target.json")
_DEFAULT = EngineOptions()
_LOGGER = logging.getLogger("s2s.serving")


@dataclass(frozen=True, eq=False)
class Model:
    """A model directory that is served."""

    path: Path
    version: str  # the beginning of the hash of its files
    engine: EngineClient

    @cached_property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name

    @cached_property
    def source(self) -> str:
        """The language that it translates from."""
        return self.engine.config.source_language

    @cached_property
    def target(self) -> str:
        """The language that it translates to."""
        return self.engine.config.target_language

    @cached_property
    def label(self) -> str:
        """The model's name and version, as answers have it in `x-s2s-model`."""
        return f"{quote(self.name)}@{self.version}"  # a header takes ASCII only


class Models:
    """One model for each pair of languages.

    An exchange is atomic: requests go to the old models until the new ones are loaded, and the old
    ones finish what they have accepted. If a new one cannot be loaded, the old ones stay.

    Args:
        start: starts the engine of a model directory.
        max_waiting: the greatest weight (`s2s.serving.engine.weight`) of the requests that wait for
            a model.
        on_end: called when an engine has ended by itself.
    """

    def __init__(
        self,
        start: Callable[[Path], EngineProcess] = _DEFAULT.start,
        max_waiting: int = MAX_WAITING,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.meters = Meters()
        self.failure: str | None = None  # why the last exchange did not happen
        self._start, self._max_waiting, self._on_end = start, max_waiting, on_end
        self._models: tuple[Model, ...] = ()
        self._exchange = threading.RLock()
        self._latest = 0  # number of the latest exchange that was asked for
        self._asking = threading.Lock()  # guards `_latest`

    @property
    def all(self) -> tuple[Model, ...]:
        """The models that answer now; the tuple is never changed, only replaced."""
        return self._models

    def serve(self, locations: Sequence[str | Path]) -> None:
        """Load model directories, and serve them from now on instead of those before.

        A directory whose files have not changed is not loaded again.

        Raises:
            BadInput: one of them is not a model directory, or two are of the same languages.
            Failed: the process of a model ended as it started.
        """
        with self._exchange:
            old = {(model.path, model.version): model for model in self._models}
            new: list[Model] = []
            try:
                for path in map(local_copy, locations):
                    current = version(path)
                    new.append(old.get((path, current)) or self._load(path, current))
                require_different_languages([(m.path, m.source, m.target) for m in new])
            except BaseException:
                _retire([model for model in new if model not in self._models])
                raise
            self.failure = None  # first, so that it is never listed beside the new models
            before, self._models = self._models, tuple(new)
            _retire([model for model in before if model not in new])

    def serve_soon(self, locations: Sequence[str | Path]) -> None:
        """Start to `serve` model directories in the background.

        An error is logged, and kept as `failure`. Of several exchanges that wait for each other
        only the last one happens.
        """
        with self._asking:
            self._latest += 1
            number = self._latest

        def exchange() -> None:
            with self._exchange:  # a later exchange may get it first
                if number == self._latest:
                    self._try(locations)

        threading.Thread(target=exchange, name="s2s-exchange", daemon=True).start()

    def _try(self, locations: Sequence[str | Path]) -> None:
        try:
            self.serve(locations)
            _LOGGER.warning("serving %s", ", ".join(model.label for model in self._models))
        except (BadInput, Failed) as error:
            self.failure = str(error)
            _LOGGER.error("keeping the models served so far: %s", error)
        except BaseException as error:
            self.failure = f"{type(error).__name__}: {error}"
            _LOGGER.exception("keeping the models served so far")

    @property
    def alive(self) -> bool:
        """Whether there are models, and all their engines run."""
        return bool(self._models) and all(model.engine.alive for model in self._models)

    @property
    def waiting(self) -> int:
        """The weight of all requests that the models have not answered yet."""
        return sum(model.engine.waiting for model in self._models)

    def close(self) -> None:
        """End all engines once they have answered the requests that they have accepted."""
        models, self._models = self._models, ()
        for model in models:
            model.engine.close()

    def _load(self, path: Path, current: str) -> Model:
        process = self._start(path)
        engine = EngineClient(process, self._max_waiting, self.meters, self._on_end)
        model = Model(path, current, engine)
        try:
            if version(path) != current:
                raise BadInput(f"{path} changed while it was being loaded")
        except BadInput:
            _retire([model])
            raise
        return model


def version(path: Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a model directory's files.

    Raises:
        BadInput: one of the files is missing.
    """
    digest = hashlib.sha256()
    for name in _FILES:
        try:
            with (path / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise BadInput(f"{path / name}: {error.strerror}") from None
    return digest.hexdigest()[:12]


def require_different_languages(models: Sequence[tuple[str | Path, str, str]]) -> None:
    """Return if each of some models translates other languages than the others.

    Args:
        models: the location, the source and the target language of each.

    Raises:
        BadInput: two of them translate the same ones, or there are none.
    """
    if not models:
        raise BadInput("no model directory to serve")
    seen: dict[tuple[str, str], str | Path] = {}
    for path, source, target in models:
        if (source, target) in seen:
            raise BadInput(
                f"{seen[source, target]} and {path} both translate {source} to {target}: "
                "serve one of them"
            )
        seen[source, target] = path


def _retire(models: Sequence[Model]) -> None:
    """Close engines in the background, each when it has answered its requests."""
    for model in models:
        threading.Thread(target=model.engine.close, name="s2s-retire", daemon=True).start()
