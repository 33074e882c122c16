"""Requests for languages, brought to the engine of the model that translates them."""

from collections.abc import Awaitable, Callable, Mapping
from itertools import product
from typing import NamedTuple, TypeVar

from fastapi import HTTPException

from s2s.config import DecodeConfig
from s2s.errors import BadInput
from s2s.serving.engine.client import Closed, EngineClient, Overloaded
from s2s.serving.engine.models import Model, Models
from s2s.serving.http.gate import too_many_requests
from s2s.serving.http.schema import DetectedLanguage
from s2s.text.detection import language_probabilities, percent
from s2s.text.languages import matching_languages

Result = TypeVar("Result")


class Languages(NamedTuple):
    """The languages of a request, by the codes of the models."""

    source: str
    target: str
    detected: tuple[DetectedLanguage, ...] = ()  # of each text; none unless it was `auto`

    def to_translate(self, texts: list[str]) -> list[int]:
        """Return the places of the texts that are not blank, nor in the target already."""
        return [
            place
            for place, text in enumerate(texts)
            if self._source_of(place) != self.target and text and not text.isspace()
        ]

    def _source_of(self, place: int) -> str:
        return self.detected[place].language if self.detected else self.source


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

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of all languages that are translated from or into."""
        return tuple(sorted({code for model in self.models for code in _pair(model)}))

    def resolve(self, source: str, target: str, texts: list[str]) -> Languages:
        """Return the languages of a request, its source detected in the texts if it is `auto`.

        Source and target may be one language, and a text may be found to be in the target: such
        a text needs no translation.

        Raises:
            HTTPException: 400, the languages are not served.
        """
        if (source, target) in map(_pair, self.models):  # the usual request
            return Languages(source, target)
        if _is_auto(source):
            return self._detect(self._target(source, target), texts, target_too=True)
        sources, targets = (matching_languages(code, self.languages) for code in (source, target))
        for pair in product(sources, targets):
            if pair in map(_pair, self.models):
                return Languages(*pair)
        if sources and sources[:1] == targets[:1]:
            return Languages(sources[0], sources[0])
        raise self._not_served(source, target)

    def resolve_pair(self, source: str, target: str | None, texts: list[str]) -> Languages:
        """Return the languages of a request that a model must translate.

        Args:
            target: may be left out if only one is served.

        Raises:
            HTTPException: 400, no model has such a target, or several have different ones.
        """
        automatic = _is_auto(source)
        if target is None:
            sources = matching_languages(source, self.languages)
            targets = {m.target for m in self.models if automatic or m.source in sources}
            if len(targets) != 1:
                pairs = ", ".join(sorted(self._pairs()))
                raise HTTPException(400, f"target: name the language; served are {pairs}")
            [target] = targets
        if automatic:
            return self._detect(self._target(source, target), texts, target_too=False)
        return self.resolve(source, target, texts)

    def served_language(self, code: str) -> str:
        """Return the served language that a code means; `auto` stays as it is.

        Raises:
            HTTPException: 400, it is not served.
        """
        if _is_auto(code):
            return "auto"
        for language in matching_languages(code, self.languages):
            return language
        raise HTTPException(400, f"{code} is not served; {', '.join(self.languages)} are")

    def _target(self, source: str, target: str) -> str:
        """Return the served language that is meant, one that is translated into if there is one.

        Raises:
            HTTPException: 400, there is none.
        """
        meant = matching_languages(target, self.languages)
        into = {model.target for model in self.models}
        if not meant:
            raise self._not_served(source, target)
        return next((code for code in meant if code in into), meant[0])

    def _detect(self, target: str, texts: list[str], target_too: bool) -> Languages:
        """Return the languages of texts that are to be translated into a target.

        One model translates all texts: the one whose source is the likeliest over all of them.

        Args:
            target_too: whether texts may also be in the target itself, or in a language that is
                refused; otherwise a model translates them in any case.

        Raises:
            HTTPException: 400, no model has this target, or the texts are in a language that none
                translates into it.
        """
        sources = [model.source for model in self.models if model.target == target]
        usable = [*sources, target] if target_too else sources
        if not usable:
            raise self._not_served("auto", target)
        shares = [language_probabilities(text, self.languages) for text in texts]
        totals = {
            code: sum(share[code] * len(text) for share, text in zip(shares, texts, strict=True))
            for code in self.languages
        }
        likeliest = max(self.languages, key=totals.__getitem__)
        if target_too and totals[likeliest] > sum(totals[code] for code in set(usable)):
            raise self._not_served(
                likeliest, target, f"the language of q seems to be {likeliest}; "
            )
        source = max(usable, key=totals.__getitem__)
        if source == target and sources:  # some texts may be in another language all the same
            source = max(sources, key=totals.__getitem__)
        detected = []
        for share in shares:
            # A text is more likely to be in the language that the others are in.
            is_target = (
                target_too and share[target] * totals[target] > share[source] * totals[source]
            )
            language = target if is_target else source
            detected.append(
                DetectedLanguage(confidence=percent(share[language]), language=language)
            )
        return Languages(source, target, tuple(detected))

    async def run(
        self, languages: Languages, work: Callable[[EngineClient], Awaitable[Result]]
    ) -> tuple[Model, Result]:
        """Return the model of a request's languages, and what its engine makes.

        If the model is exchanged for another before its engine takes the work, the other does it.

        Raises:
            HTTPException: 400, the languages are not served; 429, too many requests are waiting;
                503, the model's process has ended.
            Failed: the model failed.
        """
        while True:
            model = self._find(languages.source, languages.target)
            try:
                return model, await work(model.engine)
            except Closed:
                if model in self.models:  # it was not exchanged
                    raise HTTPException(503, "the model's process has ended") from None
            except Overloaded:
                raise too_many_requests("too many requests are waiting") from None

    def _find(self, source: str, target: str) -> Model:
        for model in self.models:
            if _pair(model) == (source, target):
                return model
        raise self._not_served(source, target)

    def _pairs(self) -> list[str]:
        return [f"{model.source} to {model.target}" for model in self.models]

    def _not_served(self, source: str, target: str, reason: str = "") -> HTTPException:
        pairs = self._pairs()
        served = f"{', '.join(pairs)} {'is' if len(pairs) == 1 else 'are'}"
        return HTTPException(400, f"{reason}{source} to {target} is not served; {served}")


def _is_auto(code: str) -> bool:
    return code.strip().lower() == "auto"


def _pair(model: Model) -> tuple[str, str]:
    return model.source, model.target


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
