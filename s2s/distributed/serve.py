"""Serving in the foreground on Ray Serve."""

import logging
import signal
import threading
from collections.abc import Callable

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from s2s.distributed.cluster import WorkerResources, cluster
from s2s.errors import BadInput, Failed, last_line
from s2s.serving.addresses import require_free


def serve_until_stopped(
    application: Application,
    replicas: int,
    host: str,
    port: int,
    log: Callable[[str], None],
    ready: str,
    serve_host: str | None = None,
) -> None:
    """Serve an application until Ctrl-C or SIGTERM, then end all that was started.

    Args:
        host: address that clients reach.
        log: called with each line for the user.
        ready: line for the user once requests are answered.
        serve_host: address that Serve itself listens on, where HAProxy listens on `host`.

    Raises:
        BadInput: the address cannot be listened on, the cluster cannot hold the replicas or serves
            other applications already.
        Failed: no replica came up.
    """
    require_free(host, port)
    with cluster(log):
        WorkerResources(replicas).require(log)
        if serve.status().applications:
            raise BadInput("this cluster serves applications already; `serve deploy` adds one")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        options = HTTPOptions(host=serve_host or host, port=port)
        try:
            serve.start(http_options=options, logging_config=quiet)
            serve.run(application, name="s2s", logging_config=quiet)
            log(ready)
            threading.Event().wait()
        except KeyboardInterrupt:
            log("ending")
        except (RuntimeError, RayError) as error:
            raise Failed(f"the application did not start: {last_line(error)}") from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # shutting down already
            serve.shutdown()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
