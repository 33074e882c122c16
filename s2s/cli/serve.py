"""`s2s serve`."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import ValidationError

from s2s import __version__
from s2s.cli.variables import Variable
from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.config import describe
from s2s.errors import BadInput
from s2s.extras import install_command
from s2s.locations import Location, absolute, name_of
from s2s.overrides import SERVICE_OVERRIDES

if TYPE_CHECKING:
    from s2s.serving.settings import ServiceSettings

_STANDARD_ERROR = Path("-")  # instead of a file for the access log


@dataclass(frozen=True)
class Serve(Verb):
    """Serve model directories over HTTP, with a web page, until Ctrl-C or SIGTERM.

    Environment variables set the options that name one, as S2S_PORT=8080 does; an option that is
    given counts first. Flags are set by yes or no, lists by items separated by commas.
    """

    models: Annotated[tuple[Location, ...], tyro.conf.Positional, Variable("S2S_MODELS")]
    """Model directories, at paths or URIs, one for each language pair."""

    decoding: Annotated[DecodingOptions, *decoding_options(SERVICE_OVERRIDES)]

    local: Annotated[bool, Variable("S2S_LOCAL")] = False
    """Serve without Ray: HTTP in this process, and a process for each model."""

    host: Annotated[str, Variable("S2S_HOST")] = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""

    port: Annotated[int, Variable("S2S_PORT")] = 8000
    """Port to listen on."""

    replicas: Annotated[int, Variable("S2S_REPLICAS")] = 1
    """Copies of the models on Ray, each in processes of its own."""

    slots: Annotated[int, Variable("S2S_SLOTS")] = 64
    """Sentences that a model decodes greedily at a time, and as many that it searches by beams."""

    keys: Annotated[Path | None, Variable("S2S_KEYS")] = None
    """File of API keys, as `s2s key` writes it, read again whenever it changes. Required if others
    can reach the address."""

    open: Annotated[bool, Variable("S2S_OPEN")] = False
    """Serve without API keys, although others can reach the address."""

    suggestions: Annotated[Path | None, Variable("S2S_SUGGESTIONS")] = None
    """File to which `POST /suggest` adds better translations, as lines of JSON."""

    access_log: Annotated[Path | None, Variable("S2S_ACCESS_LOG")] = None
    """File to which a line is added for each request, without texts and keys; with --local, - for
    standard error."""

    cors: Annotated[tuple[str, ...], Variable("S2S_CORS")] = ()
    """Origins whose pages may send requests, such as https://example.org; * for any."""

    def run(self) -> None:
        """Serve in the foreground."""
        from s2s.mirrors import local_copy
        from s2s.model.config_file import read_config
        from s2s.serving.addresses import require_free
        from s2s.serving.engine.models import require_different_languages

        self._check_options()
        configs = [read_config(local_copy(model)) for model in self.models]
        directions = [
            (model, config.source_language, config.target_language)
            for model, config in zip(self.models, configs, strict=True)
        ]
        require_different_languages(directions)
        settings = self._settings()
        require_free(self.host, self.port)
        named = ", ".join(
            f"{source}-{target} ({name_of(model)})" for model, source, target in directions
        )
        _print_now(f"loading {named}")
        if self.local:
            self._serve_locally(settings, named)
        else:
            self._serve_on_ray(settings, named)

    def _check_options(self) -> None:
        """Check the options that need no file to be read.

        Raises:
            BadInput: one of them is out of range, or does not go with another.
        """
        from s2s.serving.addresses import is_loopback

        if self.replicas < 1:
            raise BadInput(f"--replicas {self.replicas}: at least 1 is needed")
        if not 0 < self.port < 65_536:
            raise BadInput(f"--port {self.port}: a port from 1 to 65535 is needed")
        if self.local and self.replicas > 1:
            raise BadInput(f"--replicas {self.replicas} needs Ray: leave out --local")
        if not self.local and importlib.util.find_spec("ray") is None:
            raise BadInput(
                "Ray is not installed: add --local to serve without it, or "
                f"{install_command('ray,serve')}"
            )
        if not self.local and self.access_log == _STANDARD_ERROR:
            raise BadInput("--access-log - needs --local; replicas on Ray write to a file")
        if not self.models:
            raise BadInput("name a model directory to serve")
        if not (self.keys or self.open or is_loopback(self.host)):
            raise BadInput(
                f"--host {self.host} can be reached by others: give --keys FILE (`s2s key NAME` "
                "makes its lines), or --open to serve everybody"
            )

    def _settings(self) -> "ServiceSettings":
        """Return the settings of the service.

        Raises:
            BadInput: a setting is out of range, or a file cannot be used.
        """
        from s2s.serving.addresses import is_loopback
        from s2s.serving.http.access_log import AccessLog
        from s2s.serving.http.api_keys import read_keys
        from s2s.serving.http.suggestions import Suggestions
        from s2s.serving.settings import ServiceSettings

        _check("--keys", self.keys, read_keys)
        _check("--suggestions", self.suggestions, Suggestions)
        _check("--access-log", self.access_log, AccessLog)
        try:
            return ServiceSettings.model_validate(
                {
                    "slots": self.slots,
                    "keys": _absolute(self.keys),
                    "open": self.keys is None,
                    "open_metrics": is_loopback(self.host),
                    "suggestions": _absolute(self.suggestions),
                    "access_log": _absolute(self.access_log),
                    "cors": list(self.cors),
                    **self.decoding.settings(),
                }
            )
        except ValidationError as error:
            raise BadInput(f"--{describe(error)}") from None

    def _serve_locally(self, settings: "ServiceSettings", named: str) -> None:
        from s2s.serving.local import serve_locally

        ready = self._ready(settings, named)
        paths = [absolute(model) for model in self.models]
        serve_locally(settings, paths, self.host, self.port, _print_now, ready)

    def _serve_on_ray(self, settings: "ServiceSettings", named: str) -> None:
        from s2s.decoding.shortlisted import load_shortlist
        from s2s.distributed.local_serve import local_serve
        from s2s.mirrors import local_copy
        from s2s.model.directory import ModelDirectory

        for model in self.models:
            # What is wrong with a directory is reported before a cluster starts, which would only
            # say that a replica failed.
            directory = ModelDirectory.load(local_copy(model))
            decode = directory.config.decode.changed(**self.decoding.settings())
            if decode.shortlist is not None:
                load_shortlist(directory)
        # Before Ray is imported, which reads the environment then.
        with local_serve(self.host) as serve_host:
            from s2s.distributed.deployment import Arguments, build
            from s2s.distributed.serve import serve_until_stopped

            arguments = Arguments.model_validate(
                {
                    "models": [absolute(model) for model in self.models],
                    "num_replicas": self.replicas,
                    **settings.model_dump(),
                }
            )
            serve_until_stopped(
                build(arguments),
                self.replicas,
                self.host,
                self.port,
                _print_now,
                self._ready(settings, named),
                serve_host,
            )

    def _ready(self, settings: "ServiceSettings", named: str) -> str:
        """Return the line for the user once requests are answered."""
        from s2s.serving.addresses import is_loopback, url
        from s2s.serving.http.api_keys import read_keys

        keys = "no keys needed"
        if self.keys:
            anonymous = any(key.anonymous for key in read_keys(self.keys))
            keys = "keys or the anonymous allowance" if anonymous else "keys needed"
        others = "" if is_loopback(self.host) else " and from other machines"
        return (
            f"s2s {__version__} serving {named} on {url(self.host, self.port)}{others}, {keys}, "
            "a page for people; Ctrl-C ends"
        )


def _check(option: str, path: Path | None, use: Callable[[Path], object]) -> None:
    """Use the file of an option as the service will, if there is one.

    Raises:
        BadInput: it cannot be used.
    """
    if path:
        try:
            use(path)
        except BadInput as error:
            raise BadInput(f"{option} {error}") from None


def _absolute(path: Path | None) -> str | None:
    """Return a path from the root; `-`, which is no file, stays as it is."""
    if path is None:
        return None
    return str(path if path == _STANDARD_ERROR else path.resolve())


def _print_now(line: str) -> None:
    print(line, flush=True)
