"""A service in this process: its models, its API keys and its HTTP interface."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI

from s2s.overrides import SERVICE_OVERRIDES, overridden
from s2s.serving.engine.models import Models
from s2s.serving.engine.process import EngineOptions
from s2s.serving.http.access_log import AccessLog
from s2s.serving.http.app import create_app
from s2s.serving.http.gate import Limits
from s2s.serving.http.keys_file import KeysFile
from s2s.serving.http.suggestions import Suggestions
from s2s.serving.settings import ServiceSettings
from s2s.text.detection import load_detection


class Instance:
    """The models of a service, which has none yet, and the HTTP interface to them.

    Args:
        on_end: called when the process of a model has ended by itself.

    Raises:
        BadInput: a file that the settings name cannot be used.
    """

    def __init__(
        self, settings: ServiceSettings, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._keys_file = KeysFile(Path(settings.keys)) if settings.keys else None
        if self._keys_file:
            self._keys_file.watch()
        engines = EngineOptions(
            settings.slots, settings.device, overridden(settings, SERVICE_OVERRIDES)
        )
        # While other processes load the models.
        self._detection = threading.Thread(target=load_detection, daemon=True)
        self._detection.start()
        self.models = Models(engines.start, settings.max_waiting, on_end)

    def app(
        self, metrics: Callable[[], str], *, request_ids: bool = True, behind_proxy: bool = False
    ) -> FastAPI:
        """Return the HTTP interface; to be called once the models are loaded.

        Args:
            metrics: returns the metrics as Prometheus reads them.
            request_ids: answer with `x-request-id`.
            behind_proxy: take what the last proxy says for the client's address.
        """
        self._detection.join()
        # A fifth of a busy replica's time went into looking for garbage among Serve's own objects,
        # and among those of requests on their way (docs/log.md).
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        own = self._settings
        return create_app(
            self.models,
            Limits(own.max_texts, own.max_sentences, own.max_characters, own.timeout_s),
            self._keys_file.keys if self._keys_file else None,
            tuple(own.cors),
            request_ids=request_ids,
            suggestions=Suggestions(Path(own.suggestions)) if own.suggestions else None,
            metrics=metrics,
            open_metrics=own.open_metrics,
            access_log=AccessLog(Path(own.access_log), behind_proxy) if own.access_log else None,
        )
