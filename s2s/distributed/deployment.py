"""The Ray Serve application: replicas that each hold all models behind the HTTP interface."""

import asyncio
import os
from typing import Annotated, Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from ray import serve
from ray.serve import Application

from s2s.distributed import ray_internals
from s2s.distributed.autoscaling import SENTENCES
from s2s.distributed.metrics import ServeMetrics, exported_metrics
from s2s.serving.instance import Instance
from s2s.serving.metrics import Publisher
from s2s.serving.settings import ServiceSettings

# A list, or on a command line its items separated by commas.
Paths = Annotated[
    list[str],
    BeforeValidator(lambda paths: paths.split(",") if isinstance(paths, str) else paths),
]


class UserConfig(BaseModel):
    """The `user_config` of the deployment: what can change while requests are answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    models: Paths = Field(min_length=1)
    """Model directories, one for each pair of languages, at URIs or at the same paths on every node
    that runs a replica. Every replica loads them all."""

    revision: int = 0
    """Any other number has the directories loaded again, where their files have changed."""


class Arguments(ServiceSettings):
    """Arguments of `build`, on the command line of `serve run` or as `args` of a Serve config."""

    models: Paths = Field(default_factory=list)
    """Model directories. A Serve config has them in the deployment's `user_config` instead, where a
    change exchanges them in running replicas; a change of `args` starts new replicas."""

    num_replicas: int | None = Field(default=None, gt=0)
    """Copies of the models, each in a process of its own; None leaves it to the Serve config."""


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
        ray_internals.bind_replica(ray.util.get_node_ip_address())
        ray_internals.send_responses_whole()
        ray_internals.leave_disconnects_to_app()
        self._instance = Instance(ServiceSettings.model_validate(settings), _exit)
        self._models = self._instance.models
        self._publisher = Publisher(self._models, ServeMetrics())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP interface; Serve calls this once the models are loaded."""
        return self._instance.app(exported_metrics, request_ids=False, behind_proxy=True)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Exchange the models in the background; Serve calls this with each new `user_config`.

        The replica gets no requests until this returns, so it does not wait for the models.
        """
        models = UserConfig.model_validate(user_config).models
        if self._models.all:
            self._models.serve_soon(models)
        else:  # the replica has just been made
            self._models.serve(models)

    def check_health(self) -> None:
        """Raise an error if Serve, which calls this, is to replace the replica."""
        if not self._models.all:
            raise RuntimeError("no models: `user_config` of the deployment names none")
        if not self._models.alive:
            raise RuntimeError("the process of a model has ended")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what the autoscaling policy reads; Serve calls this every few seconds."""
        return {SENTENCES: self._models.waiting}

    async def __del__(self) -> None:
        """Publish the last metrics; Serve calls this once the last request is answered."""
        await asyncio.to_thread(self._publisher.close)


def build(arguments: Arguments) -> Application:
    """Return the application that serves some model directories."""
    settings = arguments.model_dump(exclude={"models", "num_replicas"})
    options: dict[str, Any] = {}
    if arguments.models:
        options["user_config"] = UserConfig(models=arguments.models).model_dump()
    if arguments.num_replicas is not None:
        options["num_replicas"] = arguments.num_replicas
    return Replica.options(**options).bind(settings)


def _exit() -> None:
    """End a replica whose model has ended, before it answers any request with that.

    HAProxy sends the requests to another replica, and Serve starts a new one.
    """
    os._exit(1)
