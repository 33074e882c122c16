"""What is changed of Ray Serve and uvicorn in a replica."""

import asyncio
import socket

import pytest

from s2s.distributed.ray_internals import JoiningTransport


class Recorded:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.given.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.given.append(b"closed")

    def is_closing(self) -> bool:
        return self.given[-1:] == [b"closed"]


def test_what_is_written_at_one_moment_is_sent_in_one_piece_and_before_the_end() -> None:
    recorded = Recorded()

    async def run() -> None:
        transport = JoiningTransport(recorded, asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        assert recorded.given == []
        await asyncio.sleep(0)
        assert recorded.given == [b"head body"]
        transport.write(b"last")
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert recorded.given == [b"head body", b"last", b"closed"]


@pytest.mark.parametrize("takes", [False, True])
def test_who_does_not_take_an_answer_in_time_is_cut_off(takes: bool) -> None:
    size = 20_000_000  # more than sockets hold

    async def run() -> int:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        joining = JoiningTransport(transport, loop, seconds=0.2)
        joining.write(b"a" * size)
        reader, writer = await asyncio.open_connection(sock=theirs)
        taken = 0
        if takes:
            taken += len(await reader.readexactly(size))
            joining.write(b"b")
            await asyncio.sleep(0.5)
            assert await reader.readexactly(1) == b"b"
        else:
            await asyncio.sleep(0.5)
            taken += len(await reader.read())
            assert transport.is_closing()
        transport.close()
        writer.close()
        return taken

    taken = asyncio.run(run())
    assert taken == size if takes else taken < size
