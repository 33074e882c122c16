"""The Ray Serve application: replicas that each hold all models behind the HTTP interface."""

import asyncio
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from ray import serve
from ray.serve import Application

from s2s.distributed import ray_internals
from s2s.distributed.metrics import Labels, ServeMetrics
from s2s.distributed.ports import ray_is_on_loopback
from s2s.overrides import MODEL_OVERRIDES, overridden, pydantic_fields
from s2s.serving.engine.client import MAX_WAITING
from s2s.serving.engine.meters import COUNTERS, HISTOGRAMS
from s2s.serving.engine.models import Models
from s2s.serving.engine.process import EngineOptions
from s2s.serving.http.app import create_app
from s2s.serving.http.gate import Limits
from s2s.serving.http.keys_file import KeysFile
from s2s.serving.http.suggestions import Suggestions
from s2s.text.detection import load_detection

# A list, or on a command line its items separated by commas.
Paths = Annotated[
    list[str],
    BeforeValidator(lambda paths: paths.split(",") if isinstance(paths, str) else paths),
]


class UserConfig(BaseModel):
    """The `user_config` of the deployment: what can change while requests are answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    models: Paths = Field(min_length=1)
    """Model directories, one for each pair of languages, at the same paths on every node that runs
    a replica. Every replica loads them all."""

    revision: int = 0
    """Any other number has the directories loaded anew, where their files have changed."""


if TYPE_CHECKING:
    _DecodingFields = BaseModel
else:  # a field for each setting of `DecodeConfig` that holds for a whole model
    _DecodingFields = create_model("_DecodingFields", **pydantic_fields(MODEL_OVERRIDES))


class ReplicaSettings(_DecodingFields):
    """Settings of a replica, which hold as long as it lives."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    num_replicas: int | None = Field(default=None, gt=0)
    """Copies of the models, each in a process of its own; None leaves it to the Serve config."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run: `cpu`, `cuda`, or `auto`, a GPU if Serve gave the replica one or a part
    of one (`ray_actor_options: {num_gpus: 0.5}`)."""

    slots: int = Field(default=64, gt=0, le=4096)
    """Sentences that a model translates at a time."""

    max_waiting: int = Field(default=MAX_WAITING, gt=0)
    """Sentences that may wait to be translated; more are refused (429). A text counts one more for
    every 200 characters, and all counts `beam` times `n_best` as much where a request sets these,
    divided by the model's own `beam`; such requests are counted apart from all others."""

    max_texts: int = Field(default=256, gt=0)
    """Most texts of one request."""

    max_sentences: int = Field(default=2_000, gt=0)
    """Most sentences of one request; a text counts one more for every 200 characters."""

    max_characters: int = Field(default=10_000, gt=0)
    """Most characters of one request, all texts together."""

    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a request is given up (408)."""

    keys: str | None = None
    """File of API keys (`s2s key` makes its lines), read again when it changes. Required, unless
    `open` is set."""

    open: bool = False
    """Answer requests without a key."""

    suggestions: str | None = None
    """File to which `POST /suggest` adds better translations, as lines of JSON; None refuses them.
    Every node that runs a replica has a file of its own."""

    cors: list[str] = Field(default_factory=list)
    """Origins whose pages may send requests; `*` for any."""

    @model_validator(mode="after")
    def _values_fit(self) -> "ReplicaSettings":
        if not self.keys and not self.open:
            raise ValueError("either `keys` names a file of API keys, or `open` is true")
        if self.max_waiting < self.max_sentences:
            raise ValueError(f"max_waiting: the largest request alone counts {self.max_sentences}")
        return self


class Arguments(ReplicaSettings):
    """Arguments of `build`, on the command line of `serve run` or as `args` of a Serve config."""

    models: Paths = Field(default_factory=list)
    """Model directories. A Serve config has them in the deployment's `user_config` instead, where a
    change exchanges them in running replicas; a change of `args` starts new replicas."""


# Requests wait in the replica's own engine, which batches them and refuses what is too much:
# Serve's default of 5 at a time would keep them from it.
@serve.deployment(
    name="Translation",  # as Serve configs, dashboards and alerts know it
    max_ongoing_requests=1024,
    health_check_period_s=5,
    health_check_timeout_s=20,
)
@serve.ingress()
class Replica:
    """A process with models behind the HTTP interface of `s2s.serving`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if ray_is_on_loopback():
            ray_internals.bind_replica_to_loopback()
        ray_internals.send_responses_whole()
        self._settings = ReplicaSettings.model_validate(settings)
        own = self._settings
        self._keys_file = KeysFile(Path(own.keys)) if own.keys else None
        if self._keys_file:
            self._keys_file.watch()
        engines = EngineOptions(own.slots, own.device, overridden(own, MODEL_OVERRIDES))
        self._models = Models(engines.start, own.max_waiting, on_end=_exit)
        meters = self._models.meters
        self._metrics = ServeMetrics(COUNTERS, HISTOGRAMS, meters.collect, self._labels)

    def _labels(self) -> set[Labels]:
        """Return the labels of each model, for metrics."""
        return {
            (
                ("model", model.name),
                ("version", model.version),
                ("source", model.source),
                ("target", model.target),
            )
            for model in self._models.all
        }

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP interface; Serve calls this once the models are loaded."""
        load_detection()
        # A fifth of a busy replica's time went into looking for garbage among Serve's own objects,
        # and among those of requests on their way (docs/log.md).
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        own = self._settings
        limits = Limits(own.max_texts, own.max_sentences, own.max_characters, own.timeout_s)
        return create_app(
            self._models,
            limits,
            self._keys_file.keys if self._keys_file else None,
            tuple(own.cors),
            request_ids=False,
            suggestions=Suggestions(Path(own.suggestions)) if own.suggestions else None,
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Exchange the models in the background; Serve calls this with each new `user_config`.

        The replica gets no requests until this returns, so it does not wait for the models.
        """
        paths = [Path(path) for path in UserConfig.model_validate(user_config).models]
        if self._models.all:
            self._models.serve_soon(paths)
        else:  # the replica has just been made
            self._models.serve(paths)

    def check_health(self) -> None:
        """Raise an error if Serve, which calls this, is to replace the replica."""
        if not self._models.all:
            raise RuntimeError("no models: `user_config` of the deployment names none")
        if not self._models.alive:
            raise RuntimeError("the process of a model has ended")

    async def __del__(self) -> None:
        """Publish the last metrics; Serve calls this once the last request is answered."""
        await asyncio.to_thread(self._metrics.close)


def build(arguments: Arguments) -> Application:
    """Return the application that serves some model directories."""
    settings = arguments.model_dump()
    options: dict[str, Any] = {}
    if models := settings.pop("models"):
        options["user_config"] = UserConfig(models=models).model_dump()
    if arguments.num_replicas is not None:
        options["num_replicas"] = arguments.num_replicas
    return Replica.options(**options).bind(settings)


def _exit() -> None:
    """End a replica whose model has ended, before it answers any request with that.

    HAProxy sends the requests to another replica, and Serve starts a new one.
    """
    os._exit(1)
