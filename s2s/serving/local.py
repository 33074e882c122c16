"""Serving in the foreground without Ray: HTTP in this process, and a process for each model."""

import math
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from s2s.errors import Failed
from s2s.serving.addresses import bound_socket
from s2s.serving.engine.models import Models
from s2s.serving.instance import Instance
from s2s.serving.metrics import PrometheusMetrics, Publisher
from s2s.serving.settings import ServiceSettings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
KEEP_ALIVE = 90  # seconds that an idle connection is kept, as by Ray Serve


def serve_locally(
    settings: ServiceSettings,
    models: Sequence[str | Path],
    host: str,
    port: int,
    log: Callable[[str], None],
    ready: str,
) -> None:
    """Serve models until Ctrl-C or SIGTERM, then end once running requests are answered.

    Args:
        log: called with each line for the user.
        ready: line for the user once requests are answered.

    Raises:
        BadInput: the address cannot be listened on, or a model or a file cannot be used.
        Failed: the process of a model has ended.
    """
    handlers = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        with bound_socket(host, port) as address:
            _serve(settings, models, address, log, ready)
    except KeyboardInterrupt:  # before the server handled signals
        log("ending")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _serve(
    settings: ServiceSettings,
    models: Sequence[str | Path],
    address: socket.socket,
    log: Callable[[str], None],
    ready: str,
) -> None:
    instance = Instance(settings)
    instance.models.serve(models)
    metrics = PrometheusMetrics()
    publisher = Publisher(instance.models, metrics)

    def metrics_now() -> str:
        publisher.publish()
        return metrics.text()

    config = uvicorn.Config(
        instance.app(metrics_now),
        log_level="error",  # not a line for each malformed request
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the access log looks at them itself
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.timeout_s) + 1,
    )
    try:
        _Server(config, instance.models, log, ready).run(sockets=[address])
        if not instance.models.alive:
            raise Failed("the process of a model has ended")
    finally:
        publisher.close()
        instance.models.close()


class _Server(uvicorn.Server):
    """The HTTP server, which ends when a model has ended, and tells the user what it does.

    Args:
        models: those that are served.
        log, ready: as for `serve_locally`.
    """

    def __init__(
        self, config: uvicorn.Config, models: Models, log: Callable[[str], None], ready: str
    ) -> None:
        super().__init__(config)
        self._models, self._log, self._ready = models, log, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._log(self._ready)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        return not self._models.alive or await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal: end once running requests are answered, after a second one at once."""
        if self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True
            self._log("ending")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
