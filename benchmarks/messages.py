"""Cost of the messages between a service and the process of a model.

`python -m benchmarks.messages` packs and unpacks the messages of a busy service (a `Translate` for
each request, a `Translated` for every 16 of them, occasionally `Statistics`), in turns

- as the typed messages of `s2s.serving.engine.messages`;
- as bare msgpack lists of the same values;
- as frozen dataclasses, converted to lists and back.

Unpacking has to return what was packed. The command prints microseconds per message, the median of
the rounds, for creating and packing, and for unpacking.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, make_dataclass
from operator import attrgetter
from typing import Any

import msgpack

from benchmarks.train import cpu_name
from s2s.serving.engine.messages import (
    Packer,
    Statistics,
    Translate,
    Translated,
    Unpacker,
)

TEXT = "Two young men are playing football in the park ."
STEP_REQUESTS = 16  # requests answered by the message of one step
UNICODE = "surrogatepass"
CHUNK = 1 << 16  # bytes unpacked at a time, as they come from a socket

# Creates a message from its type and fields, and packs the message.
Pack = Callable[[type, list[Any]], bytes]
# Unpacks the bytes of many messages.
Unpack = Callable[[bytes], Iterable[Any]]
# Pack, unpack, and the conversion of an unpacked message to the list of its fields.
Way = tuple[Pack, Unpack, Callable[[Any], list[Any]]]


def main() -> None:
    """Measure all kinds of messages, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.messages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--messages", type=int, default=10_000, help="messages in a round")
    parser.add_argument("--rounds", type=int, default=30, help="interleaved rounds")
    arguments = parser.parse_args()
    values = list(_values(arguments.messages))
    ways: dict[str, Way] = {
        "typed messages": _typed(),
        "bare lists": _bare(),
        "frozen dataclasses": _dataclasses(),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    gc.disable()  # a replica's collector hardly ever runs, either
    for number in range(arguments.rounds):
        for name in list(ways) if number % 2 else list(ways)[::-1]:
            pack, unpack, plain = ways[name]
            start = time.process_time()
            packed = [pack(kind, fields) for kind, fields in values]
            middle = time.process_time()
            data = b"".join(packed)
            again = time.process_time()
            for _ in unpack(data):
                pass
            end = time.process_time()
            times[name].append((middle - start, end - again))
            if [plain(message) for message in unpack(data)] != [fields for _, fields in values]:
                raise SystemExit(f"{name}: the unpacked messages differ from the packed ones")
    print(f"{cpu_name()}; {' '.join(sys.argv[1:])}")
    print("| messages | creating and packing one, µs | unpacking one, µs |")
    for name, rounds in times.items():
        packing, unpacking = (
            1e6 * statistics.median(each) / len(values) for each in zip(*rounds, strict=True)
        )
        print(f"| {name} | {packing:.2f} | {unpacking:.2f} |")


def _values(number: int) -> Iterator[tuple[type, list[Any]]]:
    """Yield the types and fields of a busy service's messages."""
    observations = [["request_seconds", 0.25], ["queue_seconds", 0.125]] * 100
    for request in range(number):
        if request % 600 == 599:
            yield Statistics, [{"steps": 20, "sentences": 300, "words": 4000}, observations]
        elif request % STEP_REQUESTS == STEP_REQUESTS - 1:
            yield Translated, [{request - n: [TEXT] for n in range(STEP_REQUESTS)}, {}, {}]
        else:
            yield Translate, [request, [TEXT], False, request / 7, False]


def _typed() -> Way:
    packer = Packer()

    def plain(message: Any) -> list[Any]:
        if isinstance(message, Statistics):
            return [message.counts, [list(each) for each in message.observations]]
        return list(message)

    def unpack(data: bytes) -> Iterable[Any]:
        unpacker = Unpacker()
        for begin in range(0, len(data), CHUNK):
            yield from unpacker.feed(data[begin : begin + CHUNK])

    return lambda kind, fields: packer.pack(kind(*fields)), unpack, plain


def _unpack_lists(data: bytes) -> Iterable[list[Any]]:
    unpacker = msgpack.Unpacker(unicode_errors=UNICODE, max_buffer_size=0, strict_map_key=False)
    for begin in range(0, len(data), CHUNK):
        unpacker.feed(data[begin : begin + CHUNK])
        yield from unpacker


def _bare() -> Way:
    names = {Translate: "translate", Translated: "translated", Statistics: "statistics"}

    def pack(kind: type, fields: list[Any]) -> bytes:
        packed: bytes = msgpack.packb([names[kind], *fields], unicode_errors=UNICODE)
        return packed

    return pack, _unpack_lists, lambda message: message[1:]


def _dataclasses() -> Way:
    kinds = [Translate, Translated, Statistics]
    packer = msgpack.Packer(unicode_errors=UNICODE)
    classes = [
        make_dataclass(kind.__name__, kind._fields, frozen=True, slots=True) for kind in kinds
    ]
    by_kind = dict(zip(kinds, classes, strict=True))
    numbers = {kind: number for number, kind in enumerate(classes)}
    values = {kind: _getter([field.name for field in fields(kind)]) for kind in classes}

    def pack(kind: type, fields: list[Any]) -> bytes:
        message = by_kind[kind](*fields)
        packed: bytes = packer.pack((numbers[type(message)], *values[type(message)](message)))
        return packed

    def unpack(data: bytes) -> Iterable[Any]:
        for number, *rest in _unpack_lists(data):
            yield classes[number](*rest)

    return pack, unpack, lambda message: list(values[type(message)](message))


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns the named attributes of an object, always as a tuple."""
    if len(names) == 1:
        return lambda value: (getattr(value, names[0]),)
    return attrgetter(*names)


if __name__ == "__main__":
    main()
