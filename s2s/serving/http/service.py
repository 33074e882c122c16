"""Requests for languages, brought to the engine of the model that translates them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from fastapi import HTTPException

from s2s.config import DecodeConfig
from s2s.errors import BadInput
from s2s.serving.engine.client import Closed, EngineClient, Overloaded
from s2s.serving.engine.models import Model, Models
from s2s.serving.http.detection import detect
from s2s.serving.http.gate import too_many_requests
from s2s.serving.http.schema import DetectedLanguage

Result = TypeVar("Result")


class Source(NamedTuple):
    """The source language of a request."""

    language: str
    detected: list[DetectedLanguage]  # of each text; empty unless it was to be detected


class Service:
    """The models that are served, by the languages that they translate."""

    def __init__(self, models: Models) -> None:
        self._models = models

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that answer now."""
        return self._models.all

    @property
    def failure(self) -> str | None:
        """Why the last exchange of models did not happen, if it did not."""
        return self._models.failure

    @property
    def alive(self) -> bool:
        """Whether there are models, and all their engines run."""
        return self._models.alive

    def labels(self) -> str:
        """Return the labels of all models, for answers that no single model gives."""
        return ", ".join(model.label for model in self.models)

    def languages(self, source: str, target: str | None, texts: list[str]) -> tuple[str, str]:
        """Return the languages to translate between, where the target may be left out.

        Raises:
            HTTPException: 400, no model has such a target, or several have different ones.
        """
        targets = {m.target for m in self.models if source in ("auto", m.source)}
        if target is None:
            if len(targets) != 1:
                pairs = ", ".join(sorted(self._pairs()))
                raise HTTPException(400, f"target: name the language; served are {pairs}")
            [target] = targets
        return self.source(source, target, texts).language, target

    def source(self, source: str, target: str, texts: list[str]) -> Source:
        """Return the source language, detected in the texts if it is `auto`.

        Raises:
            HTTPException: 400, it is `auto`, and no model has this target.
        """
        if source != "auto":
            return Source(source, [])
        sources = [model.source for model in self.models if model.target == target]
        if not sources:
            raise self._not_served("auto", target)
        ranked = [dict(detect(text, sources)) for text in texts]
        # One model translates all texts: the one whose language is the likeliest over all.
        totals = {code: sum(shares[code] for shares in ranked) for code in sources}
        best = max(totals, key=totals.__getitem__)
        detected = [DetectedLanguage(confidence=shares[best], language=best) for shares in ranked]
        return Source(best, detected)

    async def run(
        self, source: str, target: str, work: Callable[[EngineClient], Awaitable[Result]]
    ) -> tuple[Model, Result]:
        """Return the model of two languages, and what its engine makes.

        If the model is exchanged for another before its engine takes the work, the other does it.

        Raises:
            HTTPException: 400, the languages are not served; 429, too many requests are waiting;
                503, the model's process has ended.
            Failed: the model failed.
        """
        while True:
            model = self._find(source, target)
            try:
                return model, await work(model.engine)
            except Closed:
                if model in self.models:  # it was not exchanged
                    raise HTTPException(503, "the model's process has ended") from None
            except Overloaded:
                raise too_many_requests("too many requests are waiting") from None

    def _find(self, source: str, target: str) -> Model:
        for model in self.models:
            if (model.source, model.target) == (source, target):
                return model
        raise self._not_served(source, target)

    def _pairs(self) -> list[str]:
        return [f"{model.source} to {model.target}" for model in self.models]

    def _not_served(self, source: str, target: str) -> HTTPException:
        pairs = self._pairs()
        served = f"{', '.join(pairs)} {'is' if len(pairs) == 1 else 'are'}"
        return HTTPException(400, f"{source} to {target} is not served; {served}")


def decode_settings(engine: EngineClient, overrides: Mapping[str, object]) -> DecodeConfig:
    """Return the settings of a model with those that a request overrides.

    Several translations without a beam or a temperature are searched for with a beam as wide.

    Raises:
        HTTPException: 400, the settings do not go together.
    """
    own = engine.config.decode
    sampled = "temperature" in overrides or own.temperature is not None
    n_best = overrides.get("n_best")
    if isinstance(n_best, int) and n_best > 1 and not sampled:
        overrides = {"beam": max(n_best, own.beam), **overrides}
    try:
        return own.changed(**overrides)
    except BadInput as error:
        raise HTTPException(400, str(error)) from None
