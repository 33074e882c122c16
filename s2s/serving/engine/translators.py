"""Translators of one model with the settings that requests ask for."""

from functools import lru_cache

from s2s.config import DecodeConfig
from s2s.decoding.slot import Search
from s2s.decoding.translator import Translator

_KEPT = 16  # settings whose translators are kept


class Translators:
    """The translator of a model, with its own settings and with those of requests.

    Any thread may call.
    """

    def __init__(self, translator: Translator) -> None:
        self.own = translator
        self.settings = translator.config.decode
        # Who asks for a translation alone is never shown `<unk>`.
        self.unmarked = translator.with_settings(unknown=self.settings.without_marks().unknown)
        self.with_settings = lru_cache(_KEPT)(self._with_settings)

    def of(self, search: Search) -> Translator:
        """Return the translator of requests that are searched so: without details, the own one."""
        return self.with_settings(search.settings) if search.details else self.own

    def _with_settings(self, settings: DecodeConfig) -> Translator:
        return self.own.with_settings(**settings.model_dump())
