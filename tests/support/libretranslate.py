"""How four programs use a LibreTranslate service: which requests they send, and how they judge."""

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx

# How each of them writes a code that LibreTranslate writes otherwise.
WEBLATE_CODES = {"zh_Hans": "zh", "zh_Hant": "zt", "pt_BR": "pb"}


class RefusedError(Exception):
    """The program gives up with what it shows its user."""


@dataclass
class Mastodon:
    """Translates posts: HTML, all texts of a post in one list, the languages looked up first."""

    client: httpx.Client
    api_key: str | None = None

    def languages(self) -> dict[str | None, list[str]]:
        """The targets of each source, and of posts whose language is not known."""
        response = self.client.get("/languages")
        if response.status_code != 200:
            raise RefusedError(response.status_code)
        targets: dict[str | None, list[str]] = {
            each["code"]: [code for code in each["targets"] if code != each["code"]]
            for each in response.json()
        }
        targets[None] = sorted({code for codes in targets.values() for code in codes})
        return targets

    def translate(
        self, texts: list[str], source: str | None, target: str
    ) -> list[tuple[str, str | None]]:
        """Each text translated, and the language that it was in."""
        if target not in self.languages().get(source, []):
            raise RefusedError("not translatable")
        response = self.client.post(
            "/translate",
            json={
                "q": texts,
                "source": source or "auto",
                "target": target,
                "format": "html",
                "api_key": self.api_key,
            },
        )
        if response.status_code == 429:
            raise RefusedError("too many requests")
        if response.status_code == 403:
            raise RefusedError("quota exceeded")
        if not 200 <= response.status_code < 300:
            raise RefusedError("unexpected response")
        data = response.json()
        detected = data.get("detectedLanguage") or [{}] * len(texts)
        return [
            (text, detected[place].get("language", source))
            for place, text in enumerate(data["translatedText"])
        ]


@dataclass
class Weblate:
    """Translates the strings of programs, one at a time, and goes by a flat list of languages."""

    client: httpx.Client
    key: str = ""

    def translate(self, text: str, source: str, target: str) -> str:
        """The suggestion that it offers."""
        response = self.client.get("/languages")
        response.raise_for_status()
        supported = {each["code"] for each in response.json()}
        source, target = (WEBLATE_CODES.get(code, code) for code in (source, target))
        if source == target or not {source, target} <= supported:
            raise RefusedError("unsupported language")
        response = self.client.post(
            "/translate",
            json={"api_key": self.key, "q": text, "source": source, "target": target},
        )
        response.raise_for_status()
        translation: str = response.json()["translatedText"]
        return translation


@dataclass
class Discourse:
    """Translates posts: forms; it detects, looks both languages up, and translates."""

    client: httpx.Client
    api_key: str | None = None

    def translate(self, cooked: str, target: str) -> tuple[str, str]:
        """The language that was detected, and the translation."""
        [best, *_] = self._ask("/detect", q=cooked[:1000])
        detected: str = best["language"]
        languages = self.client.get("/languages", headers={"Accept": "application/json"}).json()
        for code in (detected, target):
            if not any(each["code"] == code for each in languages):
                raise RefusedError("not supported")
        fields = {"q": cooked, "source": detected, "target": target, "format": "html"}
        return detected, self._ask("/translate", **fields)["translatedText"]

    def _ask(self, path: str, **fields: str) -> Any:
        if self.api_key:
            fields["api_key"] = self.api_key
        response = self.client.post(path, data=fields, headers={"Accept": "application/json"})
        if response.status_code != 200:
            raise RefusedError(response.json()["error"])
        return response.json()


@dataclass
class RocketChat:
    """Translates messages: always from `auto`, into each language that a reader has chosen."""

    client: httpx.Client
    api_key: str = ""

    def languages(self) -> list[str]:
        """The codes that readers choose from."""
        return sorted(each["code"] for each in self.client.get("/languages").json())

    def translate(self, message: str, target: str) -> str:
        """The message as the reader sees it."""
        response = self.client.post(
            "/translate",
            json={
                "q": message,
                "source": "auto",
                "target": target,
                "format": "text",
                "api_key": self.api_key,
            },
        )
        if response.status_code != 200 or not response.json().get("translatedText"):
            raise RefusedError(response.status_code)
        translation: str = response.json()["translatedText"]
        return translation


Tag = tuple[str, tuple[tuple[str, str | None], ...]]  # its name and attributes

VOID = frozenset({"br", "img", "hr", "wbr", "input"})


class _Tags(HTMLParser):
    """Collects tags, and checks that each is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def tags(html: str) -> list[Tag]:
    """The tags of well-formed HTML with their attributes, in order of name."""
    parser = _Tags()
    parser.feed(html)
    parser.close()
    assert not parser.open, f"never closed: {parser.open}"
    return sorted(parser.tags, key=repr)
