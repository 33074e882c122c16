"""The private parts of Ray and uvicorn that we reach into are what they were when we read them.

A test that fails here says what to read, and which function to mend.
"""

import ast
import asyncio
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import ray
import uvicorn
from packaging.requirements import Requirement

from s2s.distributed import hosts, local_cluster, local_serve, ray_internals
from s2s.distributed.ports import LOOPBACK
from s2s.distributed.rendezvous import listen_on_node_address, open_store
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
RAY_SOURCE = Path(ray.__file__).parent


def moved(part: str, function: str) -> str:
    """What to do about a private part that has moved."""
    return (
        f"{part} is not what it was in Ray {ray_internals.RAY} and uvicorn "
        f"{ray_internals.UVICORN}: read it in the source of the installed version, mend "
        f"`{function}` in s2s/distributed/ray_internals.py, and run this file and "
        "`pytest -m 'slow or not slow' tests/system`; then set the versions there, and the bounds "
        "of ray and uvicorn in pyproject.toml"
    )


def source(*names: str) -> str:
    """The source of a module of Ray."""
    return RAY_SOURCE.joinpath(*names).read_text("utf-8")


# ---- the rule -----------------------------------------------------------------------------------


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(line) for lines in project["optional-dependencies"].values() for line in lines
    ]


def test_the_pins_admit_the_versions_that_were_read_and_no_later_ones() -> None:
    for name, version in (("ray", ray_internals.RAY), ("uvicorn", ray_internals.UVICORN)):
        specifiers = [r.specifier for r in requirements() if r.name == name]
        assert specifiers
        major, minor, _ = map(int, version.split("."))
        for specifier in specifiers:
            assert version in specifier
            assert f"{major}.{minor + 1}.0" not in specifier, (
                f"pyproject.toml admits {name} {major}.{minor + 1}: {moved(name, 'all of it')}"
            )


def test_the_installed_versions_are_those_that_were_read() -> None:
    assert ray.__version__ == ray_internals.RAY, moved("Ray", "whatever fails below")
    assert uvicorn.__version__ == ray_internals.UVICORN, moved("uvicorn", "send_responses_whole")


def imports(file: Path) -> set[str]:
    """Dotted names that a file imports or uses."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return names


def ours() -> list[Path]:
    folders = [ROOT / name for name in ("s2s", "jobs", "benchmarks")]
    return [ROOT / "serve_app.py", *(file for folder in folders for file in folder.rglob("*.py"))]


def test_no_other_file_imports_a_private_name_of_ray_or_uvicorn() -> None:
    private = re.compile(r"^(ray|uvicorn)\..*(?<=\.)_(?!_)|^uvicorn\.protocols")
    found = {
        str(file.relative_to(ROOT)): names
        for file in ours()
        if (names := {name for name in imports(file) if private.search(name)})
    }
    assert found.keys() == {"s2s/distributed/ray_internals.py"}, (
        "make it a named function of s2s/distributed/ray_internals.py, with its reason and a test"
    )


def test_serve_app_leaves_ray_to_s2s_distributed() -> None:
    """The import contracts know packages alone, and this is a module."""
    names = imports(ROOT / "serve_app.py")
    assert {name.rpartition(".")[0] for name in names} == {"s2s.distributed.deployment"}


# ---- the driver ---------------------------------------------------------------------------------


def test_messages_for_the_driver_go_through_the_function_that_is_replaced() -> None:
    """In a process of its own: other tests have silenced this one."""
    from ray._private import worker

    why = moved("ray._private.worker.print_to_stdstream", "silence_driver_messages")
    for sender in (worker.listen_error_messages, worker.connect):
        assert "print_to_stdstream" in inspect.unwrap(sender).__code__.co_names, why
    code = """if True:
        from ray._private import worker
        from s2s.distributed.ray_internals import silence_driver_messages

        def receive(line):
            message = {"lines": [line], "pid": "raylet", "is_err": False, "ip": "x"}
            worker.print_to_stdstream(message, ignore_prefix=False)

        receive("3 workers started")
        silence_driver_messages()
        receive("all is well")"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "3 workers started" in done.stdout, why
    assert "all is well" not in done.stdout, why


def test_the_autoscaler_is_known_by_the_command_of_its_process() -> None:
    from ray._private import services

    why = moved("ray._private.services.start_monitor", "has_autoscaler")
    assert (RAY_SOURCE / services.AUTOSCALER_PRIVATE_DIR / "monitor.py").is_file(), why
    assert services.AUTOSCALER_PRIVATE_DIR == "autoscaler/_private", why
    assert services.AUTOSCALER_V2_DIR == "autoscaler/v2", why
    command = inspect.getsource(services.start_monitor)
    assert 'f"--gcs-address={gcs_address}"' in command, why
    assert '"--autoscaling-config=" + ' in command, why
    assert not ray_internals.has_autoscaler("1")


@pytest.mark.parametrize(("command", "grows"), [("ray start --no-monitor", True), ("ray", False)])
def test_kuberay_autoscales_where_it_starts_ray_without_a_monitor(
    command: str, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", command)
    assert ray_internals.has_autoscaler("6379") is grows


def test_free_resources_are_those_of_each_node() -> None:
    from ray._private import state

    why = moved("ray._private.state.available_resources_per_node", "free_resources")
    assert "node hex id" in str(state.available_resources_per_node.__doc__), why


def test_reasons_of_rays_are_known_by_their_numbers() -> None:
    from ray.core.generated.common_pb2 import NodeDeathInfo

    names = {NodeDeathInfo.Reason.Name(number) for number in hosts._REMOVED}
    assert names == {"EXPECTED_TERMINATION", "AUTOSCALER_DRAIN_IDLE"}


def test_the_control_service_keeps_the_versions_where_they_are_looked_for() -> None:
    from ray._common.usage import usage_constants
    from ray._private import grpc_utils, ray_constants
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    why = moved("ray.core.generated.gcs_service_pb2", "cluster_versions")
    assert usage_constants.CLUSTER_METADATA_KEY == b"CLUSTER_METADATA", why
    assert ray_constants.KV_NAMESPACE_CLUSTER == b"cluster", why
    with grpc_utils.init_grpc_channel("127.0.0.1:1", [("grpc.enable_http_proxy", 0)]) as channel:
        assert services.NodeInfoGcsServiceStub(channel).CheckAlive, why
        assert services.InternalKVGcsServiceStub(channel).InternalKVGet, why
    assert "ray_version" in messages.CheckAliveReply.DESCRIPTOR.fields_by_name, why
    assert {"key", "namespace"} <= set(messages.InternalKVGetRequest.DESCRIPTOR.fields_by_name), why
    with pytest.raises(ray_internals.NoRay):
        ray_internals.cluster_versions("127.0.0.1:1", 0.2)


def test_auto_is_the_cluster_of_this_host() -> None:
    from ray._private import services

    why = moved("ray._private.services.canonicalize_bootstrap_address_or_die",
                "address_on_this_host")  # fmt: skip
    parameters = inspect.signature(services.canonicalize_bootstrap_address_or_die).parameters
    assert next(iter(parameters)) == "addr", why


def test_the_job_api_tells_drivers_from_other_processes_by_a_variable() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    from s2s.cli import job_paths

    assert RAY_JOB_CONFIG_JSON_ENV_VAR == job_paths._JOB, "mend s2s/cli/job_paths.py"
    supervisor = source("dashboard", "modules", "job", "job_supervisor.py")
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR: json.dumps(" in supervisor
    assert '"RAY_JOB_STOP_WAIT_TIME_S"' in supervisor, (
        "mend _STOP_SECONDS of distributed/submission.py"
    )


def test_the_files_are_those_that_ray_packs(tmp_path: Path) -> None:
    from ray._private.runtime_env import packaging

    for name in ("a.py", "b.log", "c.bin", "d/e.py", ".venv/f.py"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "in" / ".rayignore").write_text("*.log")
    excluded = [".venv", "*.bin"]
    packaging.create_package(str(tmp_path / "in"), tmp_path / "out.zip", True, excludes=excluded)
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        packed = {entry.filename: entry.file_size for entry in opened.infolist()}
    found = ray_internals.uploaded_files(tmp_path / "in", ["*.bin"])
    assert found == packed, moved("ray._private.runtime_env.packaging", "uploaded_files")


def test_the_uri_of_a_package_is_a_digest_of_its_files(tmp_path: Path) -> None:
    why = moved("ray._private.runtime_env.packaging.get_uri_for_directory", "package_uri")
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "b.bin").write_text("b")
    first = ray_internals.package_uri(tmp_path, ["*.bin"])
    (tmp_path / "b.bin").write_text("c")
    assert ray_internals.package_uri(tmp_path, ["*.bin"]) == first, why
    (tmp_path / "a.py").write_text("c")
    assert ray_internals.package_uri(tmp_path, ["*.bin"]) != first, why


@pytest.mark.parametrize(
    ("mode", "token", "expected"),
    [(None, True, "token"), (None, False, "None")],
)
def test_a_token_is_sent_as_ray_does_for_auto(
    mode: str | None, token: bool, expected: str, tmp_path: Path
) -> None:
    from ray._private import worker

    why = moved("maybe_enable_token_auth_if_token_available", "send_token_if_there_is_one")
    call = """if address in (None, "auto"):
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)"""
    assert call in inspect.getsource(inspect.unwrap(worker.init)), why
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("a" * 32)
    code = """if True:
        import os
        from s2s.distributed.ray_internals import send_token_if_there_is_one
        send_token_if_there_is_one()
        print(os.environ.get("RAY_AUTH_MODE"))"""
    unset = {name for name in os.environ if name.startswith("RAY_AUTH")}
    environment = {k: v for k, v in os.environ.items() if k not in unset} | {"HOME": str(tmp_path)}
    if mode is not None:
        environment["RAY_AUTH_MODE"] = mode
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (expected, ""), why


def test_the_head_node_has_its_resource() -> None:
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME

    why = moved("ray._common.constants.HEAD_NODE_RESOURCE_NAME", "HEAD_NODE")
    assert ray_internals.HEAD_NODE == HEAD_NODE_RESOURCE_NAME, why


def test_a_cluster_that_is_started_in_the_block_is_on_loopback() -> None:
    from ray._private import ray_constants, services

    why = moved("ray._private.ray_constants.ENABLE_RAY_CLUSTER", "clusters_on_loopback")
    before = ray_constants.ENABLE_RAY_CLUSTER
    assert "if not ray_constants.ENABLE_RAY_CLUSTER" in inspect.getsource(
        services.get_node_ip_address
    ), why
    with ray_internals.clusters_on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1", why
    assert before == ray_constants.ENABLE_RAY_CLUSTER


def test_no_socket_of_rays_has_a_longer_path_than_the_one_that_is_reckoned_with() -> None:
    from ray._private import node

    why = "see `_SOCKET` in s2s/distributed/local_cluster.py"
    session, folder, longest = local_cluster._SOCKET.split("/")
    assert "%Y-%m-%d_%H-%M-%S_%f" in inspect.getsource(node.Node.__init__), why
    assert re.fullmatch(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}_\d{7}", session)
    assert f'"{folder}"' in inspect.getsource(node.Node._init_temp), why
    modules = {
        name
        for file in (RAY_SOURCE / "dashboard" / "modules").rglob("*.py")
        for name in re.findall(r"^class (\w+)\(SubprocessModule\)", file.read_text("utf-8"), re.M)
    }
    assert 'join(socket_dir, "dash_" + module_name)' in source(
        "dashboard", "subprocesses", "utils.py"
    )
    assert max((f"dash_{name}" for name in modules), key=len) == longest, why


# ---- Ray Train ----------------------------------------------------------------------------------


def test_ray_train_passes_a_variable_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal import constants

    why = moved(
        "ray.train.v2._internal.constants.ENV_VARS_TO_PROPAGATE", "propagate_to_train_workers"
    )
    monkeypatch.setattr(constants, "ENV_VARS_TO_PROPAGATE", set(constants.ENV_VARS_TO_PROPAGATE))
    monkeypatch.setenv("S2S_TEST", "here")
    assert "S2S_TEST" not in constants.get_env_vars_to_propagate(), why
    ray_internals.propagate_to_train_workers("S2S_TEST")
    assert constants.get_env_vars_to_propagate()["S2S_TEST"] == "here", why


class Events:
    """A listener that keeps what it is notified of."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def before_start(self, workers: int) -> None:
        self.all.append(f"start {workers}")

    def while_waiting(self) -> None:
        self.all.append("wait")

    def on_start(self, nodes: set[str]) -> None:
        self.all.append(nodes)

    def before_resize(self, workers: int) -> None:
        self.all.append(workers)

    def before_restart(self) -> None:
        self.all.append("restart")


def test_a_listener_is_notified_of_the_life_of_a_group() -> None:
    from ray.train import TrainingFailedError
    from ray.train.v2._internal import exceptions
    from ray.train.v2._internal.execution.controller import state
    from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    why = moved("ray.train.v2._internal.execution.controller", "worker_group_callback")
    events = Events()
    callback = ray_internals.worker_group_callback(events)
    resize = ResizeDecision(num_workers=2, resources_per_worker={"CPU": 1})
    running = state.RunningState()
    scheduling = state.SchedulingState(scaling_decision=resize)

    def restarts(before: state.TrainControllerState, error: TrainingFailedError) -> list[object]:
        events.all.clear()
        kind = state.RestartingState if before is running else state.ReschedulingState
        now = kind(training_failed_error=error)
        callback.after_controller_state_update(before, now)
        callback.after_controller_state_update(now, now)
        callback.after_controller_state_update(now, scheduling)
        callback.before_controller_execute_resize_decision(resize)
        return events.all

    callback.after_controller_state_update(state.InitializingState(), scheduling)
    callback.before_controller_execute_resize_decision(resize)  # the first group of a run
    assert events.all == [], why
    callback.after_controller_state_update(state.ResizingState(scaling_decision=resize), scheduling)
    callback.before_controller_execute_resize_decision(resize)
    assert events.all == [2], why
    assert restarts(running, WorkerGroupError("", {0: ValueError()})) == ["restart", "wait"], why
    too_late = exceptions.WorkerGroupStartupTimeoutError(2)
    assert restarts(scheduling, ControllerError(too_late)) == ["wait"], why
    failed = exceptions.WorkerGroupStartupFailedError("")
    assert restarts(scheduling, ControllerError(failed)) == ["restart", "wait"], why


def test_the_hooks_of_a_callback_are_rays() -> None:
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
    from ray.train.v2._internal.execution.controller import controller
    from ray.train.v2._internal.execution.worker_group import WorkerGroup
    from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata, Worker

    why = moved("ray.train.v2._internal.execution.callback", "worker_group_callback")
    callback = type(ray_internals.worker_group_callback(Events()))
    assert issubclass(callback, ControllerCallback), why
    assert issubclass(callback, WorkerGroupCallback), why
    hooks = [name for name in vars(callback) if not name.startswith("_")]
    assert len(hooks) == 4
    for name in hooks:
        base = WorkerGroupCallback if "worker_group" in name else ControllerCallback
        theirs = inspect.signature(getattr(base, name)).parameters
        assert list(inspect.signature(getattr(callback, name)).parameters) == list(theirs), why
        if base is ControllerCallback:
            assert f'"{name}"' in inspect.getsource(controller), why
    assert hasattr(WorkerGroup, "get_workers"), why
    fields = {one: {f.name for f in dataclasses.fields(one)} for one in (Worker, ActorMetadata)}
    assert "metadata" in fields[Worker], why
    assert "node_id" in fields[ActorMetadata], why


def test_a_callback_travels_to_the_controller() -> None:
    from ray import cloudpickle

    callback = ray_internals.worker_group_callback(Events())
    copy = cloudpickle.loads(cloudpickle.dumps(callback))
    assert isinstance(copy._listener, Events)


def test_a_notice_of_preemption_is_in_the_context_of_a_worker() -> None:
    from ray.train.v2._internal.execution import context
    from ray.train.v2._internal.execution.preemption import PreemptionContext

    why = moved("ray.train.v2._internal.execution.context.TrainContext", "PreemptionNotice")
    fields = {field.name: field.type for field in dataclasses.fields(context.TrainContext)}
    assert fields["preemption_context"] in (PreemptionContext, "PreemptionContext"), why
    assert PreemptionContext().preemption_info is None, why
    with pytest.raises(RuntimeError):  # there is none here
        ray_internals.PreemptionNotice()


def test_a_trainer_knows_the_id_of_its_run(tmp_path: Path) -> None:
    from ray.train import RunConfig
    from ray.train.torch import TorchTrainer

    why = moved("ray.train.v2.api.data_parallel_trainer.train_run_context", "run_id")
    config = RunConfig(storage_path=str(tmp_path))
    one, other = (TorchTrainer(print, run_config=config) for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{20,}", ray_internals.run_id(one)), why
    assert ray_internals.run_id(one) != ray_internals.run_id(other), why


def test_the_coordinator_takes_what_it_is_asked() -> None:
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as module
    from ray.train.v2._internal.execution.scaling_policy import ScalingPolicy, elastic

    why = moved("ray.data._internal.cluster_autoscaler", "cancel_reservation")
    start = inspect.getsource(module.get_or_create_autoscaling_coordinator)
    assert 'name="AutoscalingCoordinator"' in start, why
    assert 'namespace="AutoscalingCoordinator"' in start, why
    actor = module._AutoscalingCoordinatorActor
    inspect.signature(actor.cancel_request).bind(None, "train-1")
    inspect.signature(actor.get_reserved_resources).bind(None, "s2s", recompute=True)
    after_start = inspect.getsource(ScalingPolicy.after_controller_start)
    assert 'f"train-{train_run_context.run_id}"' in after_start, why
    assert elastic.ElasticScalingPolicy.GET_RESERVED_RESOURCES_INTERVAL_S <= 1, why


def test_the_first_worker_of_a_group_is_asked_where_torchs_store_is() -> None:
    from ray.train._internal.utils import get_address_and_port
    from ray.train.torch import config
    from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback

    why = moved("ray.train.torch.config._TorchBackend", "torch_config")
    assert config.get_address_and_port is get_address_and_port, why
    on_start = inspect.getsource(config._TorchBackend.on_start)
    assert re.search(r"execute_single\(\s*0, get_address_and_port\s*\)", on_start), why
    assert "backend_config.backend_cls()" in inspect.getsource(BackendSetupCallback), why
    # It travels to the process of Ray's controller.
    ours = ray.cloudpickle.loads(
        ray.cloudpickle.dumps(
            ray_internals.torch_config("gloo", listen_on_node_address, open_store)
        )
    )
    assert isinstance(ours, config.TorchConfig)
    assert ours.backend == "gloo"
    assert issubclass(ours.backend_cls, config._TorchBackend)


# ---- Ray Serve ----------------------------------------------------------------------------------


def listening_on(port: int) -> set[str]:
    """The addresses on which this process listens on a port."""
    places = [c.laddr for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
    return {place.ip.removeprefix("::ffff:") for place in places if place.port == port}


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve's module of a replica, bound to 127.0.0.2 as if that were the node's address."""
    from ray.serve._private import replica

    for name in ("add_port_to_grpc_server", "start_asgi_http_server"):
        monkeypatch.setattr(replica, name, getattr(replica, name))
    ray_internals.bind_replica("127.0.0.2")
    return replica


def test_a_replica_opens_its_port_for_deployments_on_the_address_of_its_node(bound: Any) -> None:
    why = moved("ray.serve._private.replica.add_port_to_grpc_server", "bind_replica")
    call = 'add_port_to_grpc_server(self._server, "[::]:0")'
    assert inspect.getsource(bound).count(call) == 1, why
    server = grpc.server(ThreadPoolExecutor(1))
    port = bound.add_port_to_grpc_server(server, "[::]:0")
    server.start()
    try:
        assert listening_on(port) == {"127.0.0.2"}, why
    finally:
        server.stop(None)


def test_serve_leaves_it_to_the_app_to_notice_that_a_client_has_gone(bound: Any) -> None:
    from ray.serve._private.http_util import parse_disconnect_disabled_header
    from ray.serve.config import HTTPOptions

    why = moved("ray.serve._private.replica.Replica", "leave_disconnects_to_app")
    source = inspect.getsource(bound.Replica._direct_ingress_asgi)
    assert "parse_disconnect_disabled_header(headers)" in source, why
    assert "receive_task is None" in source, why
    ray_internals.leave_disconnects_to_app()
    seen = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(port: int) -> None:
        options = HTTPOptions(host="127.0.0.1", port=port, middlewares=[])
        loop = asyncio.get_running_loop()
        task, server = await bound.start_asgi_http_server(answer, options, event_loop=loop)
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"http://127.0.0.1:{port}", headers={"x-own": "1"})
        server.should_exit = True
        await task

    asyncio.run(ask(free_port()))
    [headers] = seen
    assert (b"x-own", b"1") in headers
    assert parse_disconnect_disabled_header(dict(headers)), why


def test_a_replica_opens_its_port_for_http_on_the_address_of_its_node_and_loopback(
    bound: Any,
) -> None:
    from ray.serve.config import HTTPOptions

    why = moved("ray.serve._private.http_util.start_asgi_http_server", "bind_replica")
    assert inspect.getsource(bound).count("await start_asgi_http_server(") == 1, why

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(port: int) -> None:
        options = HTTPOptions(host="0.0.0.0", port=port, middlewares=[])  # noqa: S104
        loop = asyncio.get_running_loop()
        task, server = await bound.start_asgi_http_server(answer, options, event_loop=loop)
        while not server.started:
            await asyncio.sleep(0.01)
        assert listening_on(port) == {"127.0.0.1", "127.0.0.2"}, why
        async with httpx.AsyncClient(trust_env=False) as client:
            for address in ("127.0.0.1", "127.0.0.2"):
                assert (await client.get(f"http://{address}:{port}")).status_code == 204, why
        # Serve tries another port after this error.
        with pytest.raises(RuntimeError) as taken:
            await bound.start_asgi_http_server(answer, options, event_loop=loop)
        assert isinstance(taken.value.__cause__, OSError), why
        server.should_exit = True
        await task
        assert listening_on(port) == set(), why

    asyncio.run(ask(free_port()))


def test_uvicorn_gets_a_transport_that_joins_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    why = moved("uvicorn.protocols.http.httptools_impl", "send_responses_whole")
    assert AutoHTTPProtocol is HttpToolsProtocol, why
    original = HttpToolsProtocol.connection_made
    assert list(inspect.signature(original).parameters) == ["self", "transport"], why
    assert "self.transport = transport" in inspect.getsource(original), why
    assert "self.loop = " in inspect.getsource(HttpToolsProtocol.__init__), why
    monkeypatch.setattr(HttpToolsProtocol, "connection_made", original)
    for _ in range(2):  # again changes nothing
        ray_internals.send_responses_whole()
    replaced = HttpToolsProtocol.connection_made
    assert inspect.getclosurevars(replaced).nonlocals["original"] is original


# ---- environment variables ----------------------------------------------------------------------


def test_ray_reads_the_variables_that_are_set_for_it(tmp_path: Path) -> None:
    constants = source("serve", "_private", "constants.py")
    settings = local_serve.local_settings(tmp_path)
    names = {name for name in settings if name.startswith("RAY_SERVE_")}
    missing = {name for name in names if f'"{name}"' not in constants}
    assert not missing, (
        f"{ROOT / 's2s/distributed/local_serve.py'} sets {missing}, which Ray {ray.__version__} "
        "does not read: look for their new names in ray/serve/_private/constants.py"
    )
    [loopback] = LOOPBACK
    assert f'"{loopback}"' in source("_private", "ray_constants.py"), (
        f"{loopback} has another name now: look for it in ray/_private/ray_constants.py, and mend "
        "s2s/distributed/ports.py"
    )
