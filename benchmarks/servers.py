"""The servers that `benchmarks.serve` measures beside `s2s serve`.

`python -m benchmarks.servers KIND --model MODEL --port PORT` serves until SIGTERM. All but `echo`
translate greedily with the same `Translator`, and all take the request of `/translate`.

- `uvicorn`: the app and the engine of `s2s serve`, without Ray.
- `batch`: a deployment that gathers requests with `@serve.batch` and translates each batch in a
  thread, so that the next one can be gathered.
- `batch-plain`: the same without HAProxy and throughput mode, as Ray Serve comes.
- `batch-default`: that, and with the batch size, wait and `max_ongoing_requests` that Serve has if
  one sets none.
- `alone`: every request for itself, in a thread.
- `echo`: the text comes back.

`python -m benchmarks.servers in-process --sentences FILE --seconds S` translates the lines of a
file again and again in one call each, and prints sentences/s.
"""

import argparse
import asyncio
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

from benchmarks.decode import _lines
from s2s.serving.http.schema import TranslateRequest, TranslateResponse

RAY = ("batch", "batch-plain", "batch-default", "alone", "echo")
AS_RAY_COMES = ("batch-plain", "batch-default")
WARM_UPS = 2  # calls in process that are not counted

# What Serve has if one sets nothing.
DEFAULTS = {"size": 10, "wait": 0.01, "ongoing": 5}


def main() -> None:
    """Serve, or translate, until told to end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("kind", choices=["uvicorn", *RAY, "in-process"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--size", type=int, default=64, help="requests of a batch")
    parser.add_argument("--wait", type=float, default=0.005, help="seconds for a batch to fill")
    given = parser.parse_args()
    if given.kind == "in-process":
        _in_process(given.model, given.sentences, given.seconds)
    elif given.kind == "uvicorn":
        _uvicorn(given.model, given.port)
    else:
        how = {"size": given.size, "wait": given.wait, "ongoing": 1024}
        _ray(given.kind, given.model, given.port, how)


def _translator(model: Path) -> Any:
    from s2s.decoding.translator import Translator

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the replicas of `s2s serve`
    return Translator.load(model).with_settings(beam=1)


def _in_process(model: Path, sentences: Path, seconds: float) -> None:
    translator, texts = _translator(model), [line for line in _lines(sentences) if line.strip()]
    for _ in range(WARM_UPS):
        translator.translate(texts)
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        translator.translate(texts)
        calls += 1
    print(calls * len(texts) / (time.perf_counter() - start))


def _uvicorn(model: Path, port: int) -> None:
    import uvicorn

    from s2s.serving.engine.models import Models
    from s2s.serving.engine.process import EngineOptions
    from s2s.serving.http.app import create_app

    models = Models(EngineOptions(decode={"beam": 1}).start)
    models.serve([model])
    app = create_app(models)
    totals: dict[str, int] = {}

    async def counts() -> dict[str, int]:
        """What the engine has counted since the start."""
        for (name, _), count in models.meters.collect()[0].items():
            totals[name] = totals.get(name, 0) + count
        return totals

    app.add_api_route("/counts", counts)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    models.close()


def _ray(kind: str, model: Path, port: int, how: dict[str, Any]) -> None:
    from s2s.distributed.local_serve import local_serve

    # Ray reads the settings of `local_serve` when it is imported.
    with nullcontext() if kind in AS_RAY_COMES else local_serve():
        from s2s.distributed.serve import serve_until_stopped

        if kind == "echo":
            application = _echo(how)
        elif kind == "alone":
            application = _alone(model, how)
        else:
            application = _batched(model, DEFAULTS if kind == "batch-default" else how)
        serve_until_stopped(application, 1, "127.0.0.1", port, lambda said: print(said, flush=True))


def _batched(model: Path, how: dict[str, Any]) -> Any:
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=how["ongoing"])
    @serve.ingress(app)
    class Batched:
        def __init__(self) -> None:
            self._translator = _translator(model)

        @app.post("/translate")
        async def translate(self, form: TranslateRequest) -> Response:
            return _answer(form, await self._together(_texts(form)))

        @serve.batch(max_batch_size=how["size"], batch_wait_timeout_s=how["wait"])
        async def _together(self, requests: list[list[str]]) -> list[list[str]]:
            texts = [text for request in requests for text in request]
            made = iter(await asyncio.to_thread(self._translator.translate, texts))
            return [[next(made) for _ in request] for request in requests]

    return Batched.bind()


def _alone(model: Path, how: dict[str, Any]) -> Any:
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=how["ongoing"])
    @serve.ingress(app)
    class Alone:
        def __init__(self) -> None:
            self._translator = _translator(model)

        @app.post("/translate")
        async def translate(self, form: TranslateRequest) -> Response:
            made = await asyncio.to_thread(self._translator.translate, _texts(form))
            return _answer(form, made)

    return Alone.bind()


def _echo(how: dict[str, Any]) -> Any:
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=how["ongoing"])
    @serve.ingress(app)
    class Echo:
        @app.post("/translate")
        async def translate(self, form: TranslateRequest) -> Response:
            return _answer(form, _texts(form))

    return Echo.bind()


def _texts(form: TranslateRequest) -> list[str]:
    return [form.q] if isinstance(form.q, str) else form.q


def _answer(form: TranslateRequest, made: list[str]) -> Response:
    told = TranslateResponse(translatedText=made[0] if isinstance(form.q, str) else made)
    return Response(told.model_dump_json(exclude_none=True), media_type="application/json")


if __name__ == "__main__":
    main()
