"""What is changed of Ray Serve and uvicorn in a replica."""

import asyncio

from s2s.distributed.ray_internals import JoiningTransport


class Recorded:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.given.append(data)

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
