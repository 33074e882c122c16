"""What LibreTranslate's clients ask about a service: languages, settings, health."""

from typing import Any

from fastapi import FastAPI, HTTPException

from s2s.serving.http.gate import Gate
from s2s.serving.http.schema import ErrorResponse, Health, Language
from s2s.serving.http.service import Service
from s2s.text.languages import language_name


class InformationRoutes:
    """The endpoints that describe the service. Their docstrings are OpenAPI's descriptions."""

    def __init__(self, service: Service, gate: Gate, suggestions: bool) -> None:
        self._service, self._gate, self._suggestions = service, gate, suggestions

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        app.add_api_route("/languages", self.languages, methods=["GET"])
        app.add_api_route("/frontend/settings", self.settings, methods=["GET"])
        app.add_api_route(
            "/health",
            self.health,
            methods=["GET"],
            responses={
                503: {
                    "model": ErrorResponse,
                    "description": "The process of a model has ended, or none is loaded yet.",
                }
            },
        )

    async def languages(self) -> list[Language]:
        """List the languages that are served, each with its targets and itself among them.

        Languages that are only translated into are listed, too: clients look for both languages.
        """
        targets = {code: {code} for code in self._service.languages}
        for model in self._service.models:
            targets[model.source].add(model.target)
        return [
            Language(code=code, name=language_name(code), targets=sorted(its_targets))
            for code, its_targets in sorted(targets.items())
        ]

    async def settings(self) -> dict[str, Any]:
        """Give the settings that LibreTranslate's page asks for."""
        if not self._service.models:
            raise HTTPException(503, "no model is loaded yet")
        first = self._service.models[0]
        return {
            "apiKeys": self._gate.has_keys,
            "charLimit": self._gate.limits.characters,
            "frontendTimeout": 500,
            "keyRequired": self._gate.key_required,
            "language": {
                "source": {"code": first.source, "name": language_name(first.source)},
                "target": {"code": first.target, "name": language_name(first.target)},
            },
            "suggestions": self._suggestions,
            "supportedFilesFormat": [],
        }

    async def health(self) -> Health:
        """Check that the processes of all models run."""
        if not self._service.alive:
            raise HTTPException(503, "the process of a model has ended")
        return Health(status="ok")
