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

from s2s.distributed.cluster import Workers, cluster
from s2s.distributed.ports import require_free
from s2s.distributed.train import last_line
from s2s.errors import BadInput, Failed


def serve_until_stopped(
    application: Application, replicas: int, host: str, port: int, say: Callable[[str], None]
) -> None:
    """Serve an application until Ctrl-C or SIGTERM, then end all that was started.

    Raises:
        BadInput: the address cannot be listened on, the cluster cannot hold the replicas or serves
            other applications already.
        Failed: no replica came up.
    """
    require_free(host, port)
    with cluster():
        Workers(replicas).require(say)
        if serve.status().applications:
            raise BadInput("this cluster serves applications already; `serve deploy` adds one")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        try:
            serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=quiet)
            serve.run(application, name="s2s", logging_config=quiet)
            say(f"serving on http://{host}:{port}, a page for people; Ctrl-C ends it")
            threading.Event().wait()
        except KeyboardInterrupt:
            say("ending")
        except (RuntimeError, RayError) as error:
            raise Failed(f"the application did not start: {last_line(error)}") from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # the end is on its way
            serve.shutdown()


def _end(*_: object) -> None:
    raise KeyboardInterrupt
