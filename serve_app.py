"""The Ray Serve application: `serve run serve_app:build model=MODEL_DIR`."""

from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from s2s.serving.api import Limits, create_app
from s2s.serving.engine import Engine
from s2s.translator import Translator


class Arguments(BaseModel):
    """What `build` takes, on the command line of `serve run` or as `args` of a Serve config."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str
    """Model directory, at the same path on every node that runs a replica."""

    num_replicas: int = Field(default=1, gt=0)
    """Copies of the model, each in a process of its own."""

    max_batch: int = Field(default=64, gt=0)
    """Sentences that a replica translates together."""

    max_sentences: int = Field(default=128, gt=0)
    """Sentences of one request."""

    max_characters: int = Field(default=5_000, gt=0)
    """Characters of one request, all sentences together."""


# Requests wait in the replica's own engine, which batches them: Serve's default of 5 at a time
# would keep them from it.
@serve.deployment(max_ongoing_requests=256)
@serve.ingress()
class Translation:
    """A model behind the HTTP interface of `s2s.serving`."""

    def __init__(self, arguments: Arguments) -> None:
        translator = Translator.load(Path(arguments.model))
        waiting = max(4096, arguments.max_sentences)
        self._engine = Engine(translator, arguments.max_batch, waiting)
        self._limits = Limits(arguments.max_sentences, arguments.max_characters)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica, once the model is loaded."""
        return create_app(self._engine, self._limits)

    def check_health(self) -> None:
        """Called by Serve, which replaces the replica if this raises."""
        if not self._engine.alive:
            raise RuntimeError("the engine's thread has ended")


def build(arguments: Arguments) -> Application:
    """The application that serves one model directory."""
    deployment = Translation.options(num_replicas=arguments.num_replicas)
    return deployment.bind(arguments)
