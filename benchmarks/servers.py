"""Servers that `benchmarks.serve` measures beside `s2s serve`.

`python -m benchmarks.servers KIND --model MODEL --port PORT` serves until SIGTERM. All kinds but
`echo` translate greedily with the same `Translator`, and all accept the requests of `/translate`.

- `uvicorn`: the app and the engine of `s2s serve`, without Ray.
- `batch`: a deployment that gathers requests with `@serve.batch` and translates each batch in a
  thread, while it gathers the next one.
- `batch-plain`: `batch` without HAProxy and throughput mode, Ray Serve's defaults.
- `batch-default`: `batch-plain` with Serve's default batch size, wait and `max_ongoing_requests`.
- `alone`: a deployment that translates every request separately, in a thread.
- `echo`: a deployment that returns the text.

`python -m benchmarks.servers in-process --sentences FILE --seconds S` translates the lines of a
file repeatedly, all in one call each time, and prints sentences/s.
"""

import argparse
import asyncio
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

from s2s.serving.http.schema import TranslateRequest, TranslateResponse

RAY = ("batch", "batch-plain", "batch-default", "alone", "echo")
WITHOUT_LOCAL_SERVE = ("batch-plain", "batch-default")
WARM_UPS = 2  # calls of `in-process` that are not counted

# Serve's own defaults.
DEFAULTS = {"size": 10, "wait": 0.01, "ongoing": 5}


def main() -> None:
    """Serve until SIGTERM, or translate in process for some seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("kind", choices=["uvicorn", *RAY, "in-process"])
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--port", type=int, help="port to serve on")
    parser.add_argument("--sentences", type=Path, help="for in-process: a sentence a line")
    parser.add_argument("--seconds", type=float, help="for in-process: least duration")
    parser.add_argument("--size", type=int, default=64, help="requests in a batch")
    parser.add_argument("--wait", type=float, default=0.005, help="seconds for a batch to fill")
    arguments = parser.parse_args()
    if arguments.kind == "in-process":
        _in_process(arguments.model, arguments.sentences, arguments.seconds)
    elif arguments.kind == "uvicorn":
        _uvicorn(arguments.model, arguments.port)
    else:
        settings = {"size": arguments.size, "wait": arguments.wait, "ongoing": 1024}
        _ray(arguments.kind, arguments.model, arguments.port, settings)


def _translator(model: Path) -> Any:
    from s2s.decoding.translator import Translator

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in replicas of `s2s serve`
    return Translator.load(model).with_settings(beam=1)


def _in_process(model: Path, sentences: Path, seconds: float) -> None:
    from benchmarks.decode import read_lines

    translator = _translator(model)
    texts = [line for line in read_lines(sentences) if line.strip()]
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
        """Return the engine's counts since the start."""
        for (name, _), count in models.meters.collect()[0].items():
            totals[name] = totals.get(name, 0) + count
        return totals

    app.add_api_route("/counts", counts)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    models.close()


def _ray(kind: str, model: Path, port: int, settings: dict[str, Any]) -> None:
    from s2s.distributed.local_serve import local_serve

    # Ray reads the settings of `local_serve` when it is imported.
    with nullcontext() if kind in WITHOUT_LOCAL_SERVE else local_serve():
        from s2s.distributed.serve import serve_until_stopped

        if kind == "echo":
            application = _echo(settings)
        elif kind == "alone":
            application = _alone(model, settings)
        else:
            application = _batched(model, DEFAULTS if kind == "batch-default" else settings)
        serve_until_stopped(
            application,
            1,
            "127.0.0.1",
            port,
            log=lambda line: print(line, flush=True),
            ready="requests are answered",
        )


def _batched(model: Path, settings: dict[str, Any]) -> Any:
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=settings["ongoing"])
    @serve.ingress(app)
    class Batched:
        def __init__(self) -> None:
            self._translator = _translator(model)

        @app.post("/translate")
        async def translate(self, form: TranslateRequest) -> Response:
            return _response(form, await self._translate_batch(_texts(form)))

        @serve.batch(max_batch_size=settings["size"], batch_wait_timeout_s=settings["wait"])
        async def _translate_batch(self, requests: list[list[str]]) -> list[list[str]]:
            texts = [text for request in requests for text in request]
            translations = iter(await asyncio.to_thread(self._translator.translate, texts))
            return [[next(translations) for _ in request] for request in requests]

    return Batched.bind()


def _alone(model: Path, settings: dict[str, Any]) -> Any:
    from ray import serve

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=settings["ongoing"])
    @serve.ingress(app)
    class Alone:
        def __init__(self) -> None:
            self._translator = _translator(model)

        @app.post("/translate")
        async def translate(self, form: TranslateRequest) -> Response:
            translations = await asyncio.to_thread(self._translator.translate, _texts(form))
            return _response(form, translations)

    return Alone.bind()


def echo_app() -> FastAPI:
    """Return the app that gives a text back."""
    app = FastAPI()

    @app.post("/translate")
    async def translate(form: TranslateRequest) -> Response:
        return _response(form, _texts(form))

    return app


def _echo(settings: dict[str, Any]) -> Any:
    from ray import serve

    @serve.deployment(max_ongoing_requests=settings["ongoing"])
    @serve.ingress(echo_app())
    class Echo:
        pass

    return Echo.bind()


def _texts(form: TranslateRequest) -> list[str]:
    return [form.q] if isinstance(form.q, str) else form.q


def _response(form: TranslateRequest, translations: list[str]) -> Response:
    translated = translations[0] if isinstance(form.q, str) else translations
    content = TranslateResponse(translatedText=translated)
    return Response(content.model_dump_json(exclude_none=True), media_type="application/json")


if __name__ == "__main__":
    main()
