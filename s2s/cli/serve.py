"""`s2s serve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import ValidationError

from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.config import describe
from s2s.errors import BadInput
from s2s.overrides import MODEL_OVERRIDES


@dataclass(frozen=True)
class Serve(Verb):
    """Serve model directories over HTTP, with a web page, until Ctrl-C or SIGTERM."""

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Model directories, one for each language pair."""

    decoding: Annotated[DecodingOptions, *decoding_options(MODEL_OVERRIDES)]

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""

    port: int = 8000
    """Port to listen on."""

    replicas: int = 1
    """Copies of the models, each in a process of its own."""

    slots: int = 64
    """Sentences that a model translates at a time."""

    keys: Path | None = None
    """File of API keys, as `s2s key` writes it, read again whenever it changes. Required if others
    can reach the address."""

    open: bool = False
    """Serve without API keys, although others can reach the address."""

    suggestions: Path | None = None
    """File to which `POST /suggest` adds better translations, as lines of JSON."""

    cors: tuple[str, ...] = ()
    """Origins whose pages may send requests, such as https://example.org; * for any."""

    def run(self) -> None:
        """Serve in the foreground."""
        from s2s.distributed.local_serve import local_serve
        from s2s.distributed.ports import is_loopback
        from s2s.model.directory import ModelDirectory
        from s2s.serving.http.api_keys import read_keys
        from s2s.serving.http.suggestions import Suggestions

        if self.replicas < 1 or not 0 < self.port < 65536:
            raise BadInput("--replicas must be at least 1, and --port between 1 and 65535")
        if not self.models:
            raise BadInput("name a model directory to serve")
        if not (self.keys or self.open or is_loopback(self.host)):
            raise BadInput(
                f"others can reach {self.host}: give --keys FILE (`s2s key NAME` makes its lines), "
                "or --open to serve everybody"
            )
        for model in self.models:
            ModelDirectory.load(model)  # a broken directory is reported before a cluster starts
        if self.keys:
            read_keys(self.keys)
        if self.suggestions:
            Suggestions(self.suggestions)
        # Before Ray is imported, which reads the environment then.
        with local_serve(self.host) as serve_host:
            self._serve(serve_host)

    def _serve(self, serve_host: str) -> None:
        from s2s.distributed.deployment import Arguments, build
        from s2s.distributed.serve import serve_until_stopped

        try:
            arguments = Arguments.model_validate(
                {
                    "models": [str(model.resolve()) for model in self.models],
                    "num_replicas": self.replicas,
                    "slots": self.slots,
                    "keys": str(self.keys.resolve()) if self.keys else None,
                    "open": self.keys is None,
                    "suggestions": str(self.suggestions.resolve()) if self.suggestions else None,
                    "cors": list(self.cors),
                    **self.decoding.settings(),
                }
            )
        except ValidationError as error:
            raise BadInput(describe(error)) from None
        serve_until_stopped(
            build(arguments), self.replicas, self.host, self.port, _print_now, serve_host
        )


def _print_now(line: str) -> None:
    print(line, flush=True)
