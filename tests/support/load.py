"""A steady load on a service, from a host of its own.

    python -m tests.support.load URL --key KEY --until FILE

asks until the file exists, and then prints what became of each request, as JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Answered:
    """A request, and what became of it."""

    begun: float  # by the clock of the machine
    seconds: float
    status: int  # 0 if there was no answer
    said: str  # the translation, or what was wrong

    @property
    def ended(self) -> float:
        """When the answer came, by the clock of the machine."""
        return self.begun + self.seconds


async def ask(url: str, key: str, until: Path, callers: int, pause: float) -> list[Answered]:
    """Ask with some callers, each one request after the other."""
    answers: list[Answered] = []
    body = {"q": "I see trees.", "source": "en", "target": "fr", "api_key": key}

    async def call(client: httpx.AsyncClient) -> None:
        while not until.exists():
            begun = time.time()
            try:
                answer = await client.post(f"{url}/translate", json=body)
                status, said = answer.status_code, answer.json().get("translatedText", answer.text)
            except httpx.HTTPError as error:
                status, said = 0, repr(error)
            answers.append(Answered(begun, time.time() - begun, status, said))
            await asyncio.sleep(pause)

    async with httpx.AsyncClient(timeout=90, trust_env=False) as client:
        await asyncio.gather(*(call(client) for _ in range(callers)))
    return answers


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key", required=True)
    parser.add_argument("--until", type=Path, required=True)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two requests")
    given = parser.parse_args()
    answers = asyncio.run(ask(given.url, given.key, given.until, given.callers, given.pause))
    json.dump([asdict(answer) for answer in answers], sys.stdout)


if __name__ == "__main__":
    main()
