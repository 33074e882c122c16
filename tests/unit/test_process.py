"""Models in processes of their own, and what goes between them and the service."""

import asyncio
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest

from s2s.config import Config, DecodeConfig
from s2s.decoding.translation import SentenceTranslations, Translation
from s2s.decoding.translator import Translator
from s2s.errors import BadInput, Failed
from s2s.serving.engine.client import Closed, EngineClient
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import (
    PROTOCOL,
    Cancel,
    Cancelled,
    Close,
    Failure,
    Message,
    Packer,
    Partial,
    Ready,
    Statistics,
    Translate,
    Translated,
    TranslatedDetailed,
    TranslateDetailed,
    Unpacker,
    Unusable,
)
from s2s.serving.engine.process import EngineOptions, EngineProcess
from s2s.text.alignment import Alignment
from s2s.text.sentences import Sentence
from tests.support.corpora import Pairs
from tests.support.serving import WAIT, until, within


def process_of(model: Path) -> psutil.Process:
    """The process that this one has started for a model."""
    [found] = [p for p in psutil.Process().children() if str(model) in p.cmdline()]
    return found


@pytest.fixture
def started(model_dir: Path, tmp_path: Path) -> Path:
    """The model directory under a name of its own, by which its process is found."""
    link = tmp_path / "linked"
    link.symlink_to(model_dir)
    return link


# ---- processes -----------------------------------------------------------------------------------


def test_a_process_translates_as_the_translator_does_until_it_is_closed(
    started: Path, translator: Translator, pairs: Pairs
) -> None:
    sentences = [source for source, _ in pairs]
    engine = EngineClient(EngineOptions(slots=8).start(started), max_waiting=100_000)
    process = process_of(started)
    process.send_signal(signal.SIGINT)  # Ctrl-C is left to the service
    assert within(engine.translate(sentences)) == translator.translate(sentences)
    [[(piece, best)]] = within(
        engine.translate_detailed(sentences[:1], engine.config.decode.changed(beam=3, n_best=2))
    )
    wanted = translator.with_settings(beam=3, n_best=2).hypotheses(sentences[:1])[0]
    assert piece.stripped == sentences[0]
    assert [one.text for one in best] == [one.text for one in wanted]
    assert engine.alive
    assert engine.waiting == 0

    texts = ["\n".join(sentences)] * 60  # both ways more than the socket holds
    assert 60 * len(texts[0]) > 212_992

    async def work() -> list[list[str]]:
        return await asyncio.gather(*(engine.translate([text]) for text in texts))

    assert within(work()) == [translator.translate(texts[:1])] * len(texts)
    engine.close()
    assert not engine.alive
    assert not process.is_running()


def test_a_process_takes_the_settings_that_it_is_started_with(
    started: Path, translator: Translator, pairs: Pairs
) -> None:
    sentences = [source for source, _ in pairs[:20]]
    engine = EngineClient(EngineOptions(decode={"beam": 3, "precision": "bf16"}).start(started))
    assert engine.config.decode.beam == 3
    wanted = translator.with_settings(beam=3, precision="bf16").translate(sentences)
    assert within(engine.translate(sentences)) == wanted
    engine.close()


def test_a_process_that_is_killed_fails_who_waits_and_is_told(started: Path) -> None:
    ended = threading.Event()
    engine = EngineClient(EngineOptions().start(started), on_end=ended.set)
    process = process_of(started)

    async def work() -> list[Any]:
        asked = [asyncio.create_task(engine.translate(["I see trees.\n" * 20])) for _ in range(9)]
        await asyncio.sleep(0)
        process.send_signal(signal.SIGSTOP)  # so that none is answered before
        process.kill()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = within(work())
    assert all(isinstance(answer, Failed | list) for answer in answers)
    assert any(isinstance(answer, Failed) and "linked" in str(answer) for answer in answers)
    assert ended.is_set()
    assert not engine.alive
    assert engine.waiting == 0
    with pytest.raises(Closed):
        within(engine.translate(["late"]))
    engine.close()
    assert not process.is_running()  # nor a zombie


def test_a_process_that_has_died_while_nobody_asked_is_noticed(started: Path) -> None:
    engine = EngineClient(EngineOptions().start(started))
    process_of(started).kill()
    until(lambda: not engine.alive)
    with pytest.raises((Failed, Closed)):
        within(engine.translate(["I see trees."]))
    engine.close()


def test_a_process_ends_with_the_service(started: Path) -> None:
    engine = EngineOptions().start(started)
    process = process_of(started)
    connection = Connection(engine.connection)
    assert connection.receive(wait=True)
    connection.close()  # as the system does when a process ends
    assert engine.join() == 0
    assert not process.is_running()


def test_a_broken_model_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match="config"):
        EngineClient(EngineOptions().start(tmp_path))
    assert not [p for p in psutil.Process().children() if str(tmp_path) in p.cmdline()]


def test_a_process_that_cannot_begin_is_told(started: Path) -> None:
    with pytest.raises(Failed, match="linked ended as it started"):
        EngineClient(EngineOptions(slots=-1).start(started))


# ---- messages ------------------------------------------------------------------------------------

ODD = "a\ud800é🙂\0"
TRANSLATION = Translation(ODD, -0.25, ["a", "<eos>"], [-0.5, 0.0], ["b"], [[1.0], [0.25]], "length")
MESSAGES: list[Message] = [
    Ready(PROTOCOL, Config().model_dump_json()),
    Unusable(PROTOCOL, ODD),
    Translate(2**40, [ODD, ""], True, 1234.5, False),
    TranslateDetailed(1, [ODD], DecodeConfig(beam=3, length_penalty=0.3, unknown="copy")),
    Cancel(7),
    Close(),
    Translated(
        {0: [ODD], 2**40: ["", "b"]},
        {2**40: [1]},
        {0: [[Alignment(0, 1, 2, [(0, 0, 1), (2, 1, 2)]), Alignment(3, 4, 0, [])]]},
    ),
    TranslatedDetailed(
        3,
        [
            [],
            [SentenceTranslations(Sentence(" a ", [5, 6]), [TRANSLATION, TRANSLATION])],
            [
                SentenceTranslations(Sentence("b", []), []),
                SentenceTranslations(Sentence("c", [1]), [replace(TRANSLATION, attention=None)]),
            ],
        ],
    ),
    Failure(4, ODD),
    Cancelled(5),
    Partial(6, 1, 2, ODD),
    Statistics({"steps": 3}, [("queue_seconds", 0.125), ("queue_seconds", 0.25)]),
]


def test_a_message_of_every_type_is_among_the_examples() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(Message))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_packed_is_unpacked_with_its_types(message: Message) -> None:
    [again] = Unpacker().feed(Packer().pack(message))
    assert type(again) is type(message)
    assert again == message
    assert repr(again) == repr(message)  # a tuple is equal to a named one


@pytest.mark.parametrize("first", [Ready(PROTOCOL + 1, "{}"), Unusable(PROTOCOL - 1, "never")])
def test_an_engine_of_another_version_is_refused_by_its_first_message(first: Message) -> None:
    here, there = socket.socketpair()
    Connection(there).send(first)
    engine = EngineProcess("other", here, lambda: True, lambda: 0)
    with pytest.raises(Failed, match=f"other is of another version .* instead of {PROTOCOL}"):
        EngineClient(engine)
    assert Connection(there).receive(wait=True) is None


def test_messages_come_whole_and_in_order_however_they_are_cut() -> None:
    here, there = socket.socketpair()
    sending, receiving = Connection(here), Connection(there)
    messages = [Translate(n, ["a\ud800é🙂" * n], False, n / 3, True) for n in range(400)]
    for message in messages:
        sending.put(message)
    thread = threading.Thread(target=sending.flush)  # it is more than the socket holds
    thread.start()
    received: list[Message] = []
    while len(received) < len(messages):
        received += receiving.receive(wait=True) or []
    thread.join(WAIT)
    assert received == messages
    assert receiving.receive(wait=False) == []
    sending.close()
    assert receiving.receive(wait=True) is None


def test_a_message_in_pieces_waits_for_its_end() -> None:
    here, there = socket.socketpair()
    receiving, message = Connection(there), Failure(3, "whole" * 100)
    data = Packer().pack(message)
    for begin in range(0, len(data), 7):
        assert receiving.receive(wait=False) == []
        here.sendall(data[begin : begin + 7])
    assert receiving.receive(wait=True) == [message]


def test_to_send_to_who_has_gone_is_no_error() -> None:
    here, there = socket.socketpair()
    connection = Connection(here)
    there.close()
    connection.send(Cancel(1))

    async def soon() -> None:
        connection.send_soon(Cancel(2))

    asyncio.run(soon())
    assert connection.receive(wait=True) is None


def test_sending_soon_never_waits() -> None:
    here, there = socket.socketpair()
    sending, receiving = Connection(here), Connection(there)
    large = os.urandom(1 << 20).hex()
    messages = [Failure(number, large) for number in range(4)]

    async def soon() -> list[Message]:
        for message in messages:
            sending.send_soon(message)  # nobody reads: it would hang
        received: list[Message] = []
        while len(received) < 4:
            received += receiving.receive(wait=False) or []
            await asyncio.sleep(0.001)
        return received

    assert within(soon()) == messages
