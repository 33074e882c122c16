"""All private parts of Ray and uvicorn that s2s depends on, each with the reason for it.

None of them has a public counterpart in the versions below, in which they were read and tested; the
upper bounds in pyproject.toml admit no others. `tests/unit/test_ray_internals.py` has a test for
each. To move to another version: read the parts in its source, mend here what has moved, run that
test and `tests/system` (with `-m "slow or not slow"`), and then change the versions here and the
bounds there. No other file may import a private name.

Private modules are imported where they are used: a replica need not load Ray Train.
"""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import ray

RAY = "2.60.0"
UVICORN = "0.54.0"

# The resource of the head node, which stands for no hardware: what needs a bit of it runs there.
HEAD_NODE = "node:__internal_head__"

_COORDINATOR = "AutoscalingCoordinator"  # name and namespace of Ray's actor


# ---- the driver ----


def silence_driver_messages() -> None:
    """Keep Ray from printing its own messages to the driver's output.

    Neither `log_to_driver=False` nor a logging level stops lines such as "8 PYTHON worker processes
    have been started", which Ray pushes to every driver.
    """
    import ray._private.worker

    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def has_autoscaler(gcs_port: str) -> bool:
    """Return whether the cluster whose head is this node can add nodes.

    Ray does not say so. Every head runs the process of a monitor, which has an autoscaling config
    where it may add nodes. KubeRay runs the autoscaler beside the head instead, and then starts Ray
    without a monitor.

    Args:
        gcs_port: of the cluster's control service; there may be several clusters on a host.
    """
    import psutil  # Ray puts its own copy on the import path

    kuberay = os.environ.get("KUBERAY_GEN_RAY_START_CMD")
    if kuberay is not None:
        return "--no-monitor" in kuberay
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        monitor = any(
            word.endswith(("/autoscaler/_private/monitor.py", "/autoscaler/v2/monitor.py"))
            for word in command
        )
        if monitor and any(
            word.startswith("--gcs-address=") and word.endswith(f":{gcs_port}") for word in command
        ):
            return any(word.startswith("--autoscaling-config=") for word in command)
    return False


@contextmanager
def clusters_on_loopback() -> Iterator[None]:
    """Have a cluster that this process starts in the block listen on loopback alone.

    Ray reads the variable for it (`ports.LOOPBACK`) once, when it is imported, and that may have
    been before the variable was set.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


# ---- clusters and jobs ----


def free_resources() -> dict[str, dict[str, float]]:
    """Return what nobody uses now of each node's resources, by the node's id.

    The public `ray.available_resources` has the sums of all nodes alone.
    """
    from ray._private.state import available_resources_per_node

    free: dict[str, dict[str, float]] = available_resources_per_node()
    return free


class NoRay(Exception):
    """What answers at an address does not speak the protocol of Ray's control service."""


class NoAnswer(Exception):
    """What listens at an address does not answer in time."""


class NoToken(Exception):
    """RAY_AUTH_MODE asks for a token, and there is none."""


class TokenRefused(Exception):
    """A cluster asks for a token, or refuses the one of this process."""


def address_on_this_host() -> str:
    """Return the address that Ray takes for `auto`.

    Raises:
        ConnectionError: no cluster runs on this host, or several do.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    address: str = canonicalize_bootstrap_address_or_die("auto")
    return address


def send_token_if_there_is_one() -> None:
    """Have this process send its token, if it has one and RAY_AUTH_MODE says nothing else.

    `ray.init` does so for the address `auto`, but only after `cluster_versions` has asked.
    """
    from ray._private.authentication import authentication_token_setup as setup

    logger, level = setup.logger, setup.logger.level
    logger.setLevel(logging.ERROR)  # it warns of the mode
    try:
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        logger.setLevel(level)


def cluster_versions(address: str, seconds: float) -> tuple[str, str]:
    """Return the versions of Ray and Python of a cluster.

    Every public way to ask connects first, which takes a quarter of an hour where no Ray answers.

    Args:
        address: of the cluster's control service.
        seconds: for each of two calls.

    Raises:
        NoRay: no control service answers there.
        NoAnswer: nothing answers in time.
        NoToken: there is no token to send.
        TokenRefused: the cluster asks for a token, or for another one.
    """
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    try:
        with init_grpc_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            alive = services.NodeInfoGcsServiceStub(channel).CheckAlive(
                messages.CheckAliveRequest(), timeout=seconds
            )
            found = services.InternalKVGcsServiceStub(channel).InternalKVGet(
                messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster"),
                timeout=seconds,
            )
        return alive.ray_version, json.loads(found.value)["python_version"]
    except ray.exceptions.AuthenticationError:
        raise NoToken from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise TokenRefused from None
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise NoAnswer from None
        raise NoRay from None
    except (ValueError, KeyError):
        raise NoRay from None


def uploaded_files(folder: Path, excluded: Sequence[str]) -> dict[str, int]:
    """Return the files of a working directory that Ray uploads, and their sizes in bytes.

    Ray says only after it has packed them that they are too many.

    Args:
        excluded: patterns of what to leave out, besides what .gitignore and .rayignore name.
    """
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env import packaging

    folder = folder.absolute()
    found: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            found[str(path.relative_to(folder))] = path.stat().st_size

    silent = logging.getLogger("s2s.upload")
    silent.disabled = True
    patterns = [*get_runtime_env_default_excludes(), *excluded]
    packaging._dir_travel(
        folder,
        [packaging._get_excludes(folder, patterns)],
        add,
        include_gitignore=True,
        logger=silent,
    )
    return found


def package_uri(folder: Path, excluded: Sequence[str]) -> str:
    """Return the URI that Ray gives a working directory, which is a digest of its files.

    Args:
        excluded: as of `uploaded_files`.
    """
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env import packaging

    patterns = [*get_runtime_env_default_excludes(), *excluded]
    uri: str = packaging.get_uri_for_directory(
        str(folder), include_gitignore=True, excludes=patterns
    )
    return uri


# ---- Ray Train ----


def torch_config(
    backend: str,
    prepare: Callable[[], None],
    open_store: Callable[[], tuple[str, int]],
) -> Any:
    """Return a `TorchConfig` whose workers open torch's store themselves.

    Ray has torch open it, on every interface, and has no setting for that.

    Args:
        backend: of torch.distributed.
        prepare: called in every worker, before they connect to each other.
        open_store: called in the first worker then. Returns the address and the port of the store.
    """
    from ray.train.torch import config

    class Backend(config._TorchBackend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(prepare)
            original = config.get_address_and_port  # called in the first worker
            config.get_address_and_port = open_store
            try:
                super().on_start(worker_group, backend_config)
            finally:
                config.get_address_and_port = original

    class Config(config.TorchConfig):
        @property
        def backend_cls(self) -> Any:
            return Backend

    return Config(backend=backend)


def propagate_to_train_workers(variable: str) -> None:
    """Have Ray Train pass an environment variable on to its controller and its workers.

    The public `RunConfig.worker_runtime_env` reaches the workers alone.
    """
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    ENV_VARS_TO_PROPAGATE.add(variable)


class WorkerGroupListener(Protocol):
    """What is notified of the life of a worker group, in the process of Ray Train's controller."""

    def before_start(self, workers: int) -> None:
        """Handle that a group of so many workers is about to be started, or to wait for room."""

    def while_waiting(self) -> None:
        """Handle that there is no group, for want of resources. Called again and again."""

    def on_start(self, nodes: set[str]) -> None:
        """Handle the start of a group, on nodes of these ids."""

    def before_resize(self, workers: int) -> None:
        """Handle that a healthy group is about to be replaced by one of so many workers."""

    def before_restart(self) -> None:
        """Handle that a group has failed and is about to be restarted."""


def worker_group_callback(listener: WorkerGroupListener) -> Any:
    """Return a callback for `RunConfig` that notifies a listener.

    Ray's public `UserCallback` hears neither of a resize nor of a failure that is retried. An
    error that the listener raises ends the run.
    """
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

    class Callback(ControllerCallback, WorkerGroupCallback):
        def __init__(self, listener: WorkerGroupListener) -> None:
            self._listener = listener
            self._resizing = False

        def before_worker_group_start(self, worker_group_context: Any) -> None:
            self._listener.before_start(worker_group_context.num_workers)

        def after_worker_group_start(self, worker_group: Any) -> None:
            nodes = {worker.metadata.node_id for worker in worker_group.get_workers()}
            self._listener.on_start(nodes)

        def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
            before, now = type(previous_state).__name__, type(current_state).__name__
            # Between these two states alone a healthy group is about to go; a resize decision is
            # also executed where there is no group yet, or no longer.
            self._resizing = (before, now) == ("ResizingState", "SchedulingState")
            if now not in {"InitializingState", "RestartingState", "ReschedulingState"}:
                return
            if previous_state is current_state:
                self._listener.while_waiting()
            elif now != "InitializingState":
                error = current_state.training_failed_error
                cause = getattr(error, "controller_failure", None)
                if not isinstance(cause, WorkerGroupStartupTimeoutError):  # it waits for room
                    self._listener.before_restart()

        def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
            if self._resizing:
                self._listener.before_resize(resize_decision.num_workers)

    return Callback(listener)


class PreemptionNotice:
    """Ray's notice, in a worker of Ray Train, that a node of the run is about to go.

    The public `ray.train.get_preemption_info` makes all workers wait for each other, which costs
    too much in every step. This reads the worker's own copy.
    """

    def __init__(self) -> None:
        from ray.train.v2._internal.execution.context import get_train_context

        self._context = get_train_context().preemption_context

    @property
    def received(self) -> bool:
        """Whether there is one."""
        return self._context.preemption_info is not None


def run_id(trainer: Any) -> str:
    """Return Ray's id of the run of a `TorchTrainer`, before it is started.

    The public `TrainContext` is only to be had within the run, and without the id.
    """
    identifier: str = trainer.train_run_context.run_id
    return identifier


def cancel_reservation(run: str) -> None:
    """Give back the resources that an elastic run has reserved, whatever has become of it.

    A driver that was killed gives nothing back; nobody could use them for three minutes.

    Args:
        run: Ray's id of it.
    """
    with suppress(Exception):  # no run has been elastic on this cluster, or it has gone
        _coordinate(lambda actor: actor.cancel_request.remote(f"train-{run}"))


def recompute_reservations() -> None:
    """Make Ray divide what the cluster has left among its elastic runs.

    It does so every 20 seconds by itself. In between, a run that has lost a node is restarted on
    resources that have gone.
    """
    _coordinate(lambda actor: actor.get_reserved_resources.remote("s2s", recompute=True))


def _coordinate(call: Callable[[Any], Any]) -> None:
    ray.get(call(ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)), timeout=5)


# ---- a replica of Ray Serve ----


def bind_replica(address: str) -> None:
    """Have a replica listen on one address and on loopback.

    Called in the replica, before Serve opens its two ports: one for HTTP on `http_options.host`,
    which HAProxy on other hosts may not reach, and one for other deployments on every interface,
    although it unpickles what it receives.

    Args:
        address: of the node in the cluster. HAProxy of the same node uses loopback.
    """
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    place = f"[{address}]" if ":" in address else address
    replica.add_port_to_grpc_server = lambda server, given: add_port(
        server, given.replace("[::]", place)
    )
    start = replica.start_asgi_http_server
    loopback = "::1" if ":" in address else "127.0.0.1"

    async def start_asgi_http_server(app: Any, http_options: Any, **options: Any) -> Any:
        added = [] if address == loopback else [_bound(loopback, http_options.port)]
        try:
            on_node = http_options.model_copy(update={"host": address})
            task, server = await start(app, on_node, **options)
        except RuntimeError:
            for each in added:
                each.close()
            raise
        startup = server.startup  # called by the task, which has not begun yet
        server.startup = lambda sockets: startup(sockets=[*sockets, *added])
        return task, server

    replica.start_asgi_http_server = start_asgi_http_server


def leave_disconnects_to_app() -> None:
    """Have Serve leave it to the app, in a replica, to notice that a client has gone.

    To notice it, Serve starts two tasks for each request, with a queue between them. The app
    watches the clients of long requests alone (`s2s.serving.http.disconnects`). Serve does without
    the tasks where a header of the request says so: HAProxy removes it from what clients send, and
    this adds it to every request.
    """
    from ray.serve._private import constants, replica

    header = (constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER.encode(), b"?1")
    start = replica.start_asgi_http_server

    async def start_asgi_http_server(app: Any, http_options: Any, **options: Any) -> Any:
        async def app_with_header(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                scope["headers"] = [*scope["headers"], header]
            await app(scope, receive, send)

        return await start(app_with_header, http_options, **options)

    replica.start_asgi_http_server = start_asgi_http_server


def _bound(address: str, port: int) -> socket.socket:
    """Return a socket on an address.

    Raises:
        RuntimeError: the port is taken. Serve tries another port after this error of its own.
    """
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise RuntimeError(f"Failed to bind to address '{address}:{port}'.") from error
    return made


def send_responses_whole() -> None:
    """Have uvicorn send the head and the body of a response in one piece, in a replica.

    It writes them one after the other. A replica that died between the two left a head that HAProxy
    had passed on, and so could not ask another replica.
    """
    from uvicorn.protocols.http import httptools_impl

    protocol = httptools_impl.HttpToolsProtocol
    original = protocol.connection_made
    if getattr(original, "joins_writes", False):
        return

    def connection_made(self: Any, transport: Any) -> None:
        joining: Any = JoiningTransport(transport, self.loop)
        original(self, joining)

    setattr(connection_made, "joins_writes", True)  # noqa: B010
    setattr(protocol, "connection_made", connection_made)  # noqa: B010


class JoiningTransport:
    """An asyncio transport that sends in one piece what is written in one turn of the loop.

    It is aborted if what was sent is not taken in time: HAProxy has no bound for clients that take
    an answer slowly, and each of them takes a place of the replica.

    Args:
        seconds: for the other side to take what was sent.
    """

    def __init__(self, transport: Any, loop: Any, seconds: float = 30.0) -> None:
        self._transport, self._loop, self._seconds = transport, loop, seconds
        self._written: list[bytes] = []
        self._sent = 0  # bytes
        self._awaiting = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, at the end of the turn."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        """Send what was written, and close the transport."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if not self._written:
            return
        data = b"".join(self._written)
        self._written.clear()
        self._sent += len(data)
        self._transport.write(data)
        if not self._awaiting and self._transport.get_write_buffer_size():
            self._await_taking()

    def _await_taking(self) -> None:
        self._awaiting = True
        self._loop.call_later(self._seconds, self._check_taken, self._sent)

    def _check_taken(self, sent: int) -> None:
        """Abort the transport if not all of so many bytes have been taken."""
        self._awaiting = False
        waiting = self._transport.get_write_buffer_size()
        if self._sent - waiting < sent:
            self._transport.abort()
        elif waiting:
            self._await_taking()
