"""What runs and sweeps on Ray are described by; what they do the system tests show."""

import pickle

import pytest

from s2s.distributed.cluster import WorkerResources, parse_workers
from s2s.distributed.hosts import Host
from s2s.distributed.metrics import _add_families, _text
from s2s.errors import BadInput
from s2s.training.job import RunFailed, RunFinished, RunOutcome, RunRefused, RunStopped


@pytest.mark.parametrize(
    ("text", "workers"), [("1", (1, None)), ("4", (4, None)), ("1:4", (1, 4)), ("2:2", (2, 2))]
)
def test_workers_are_a_number_or_a_range(text: str, workers: tuple[int, int | None]) -> None:
    assert parse_workers(text) == workers


@pytest.mark.parametrize("text", ["0", "-1", "4:1", "0:2", "1:2:3", "two", "", "1:"])
def test_other_workers_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="MIN:MAX such as 1:4"):
        parse_workers(text)


def test_the_resources_of_a_worker_are_rays() -> None:
    assert WorkerResources(2, cpus=3).each == {"CPU": 3.0}
    assert WorkerResources(1, gpu=True, gpu_share=0.25).each == {"CPU": 1.0, "GPU": 0.25}
    for wrong in ({"gpu_share": 0.5}, {"gpu": True, "gpu_share": 1.5}, {"resize": 0.0}):
        with pytest.raises(BadInput):
            WorkerResources(1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="NCCL"):
        WorkerResources(2, gpu=True, gpu_share=0.5)


@pytest.mark.parametrize(
    "outcome", [RunFinished({"best": 1}), RunStopped(7), RunFailed("why"), RunRefused("why")]
)
def test_an_outcome_travels_between_processes(outcome: RunOutcome) -> None:
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301


def test_the_metrics_of_several_nodes_are_one_text_for_prometheus() -> None:
    families: dict[str, list[str]] = {}
    for node in ("a", "b"):
        _add_families(
            families,
            "# HELP ray_tasks Ray's own.\n# TYPE ray_tasks gauge\nray_tasks 1.0\n"
            "# HELP ray_s2s_serve_words_total Words.\n# TYPE ray_s2s_serve_words_total counter\n"
            f'ray_s2s_serve_words_total{{node="{node}"}} 3.0\n'
            "# HELP ray_s2s_train_loss Loss.\nray_s2s_train_loss 1.0\n",
        )
    assert _text(families) == (
        "# HELP s2s_serve_words_total Words.\n# TYPE s2s_serve_words_total counter\n"
        's2s_serve_words_total{node="a"} 3.0\ns2s_serve_words_total{node="b"} 3.0\n'
    )


def test_a_share_of_a_gpu_is_on_one_gpu() -> None:
    def room(gpus: float, share: float) -> int:
        resources = {"CPU": 64.0, "GPU": gpus}
        workers = WorkerResources(1, gpu=True, gpu_share=share)
        return workers.room([Host("a", "a", "127.0.0.1", 1, resources=resources)])

    assert [room(2, share) for share in (0.4, 0.6, 0.5, 0.2, 1)] == [4, 2, 4, 10, 2]
    assert (room(1.5, 0.5), room(0.5, 0.5), room(0.3, 0.5)) == (3, 1, 0)  # of what is free
