"""Messages between a service and the processes of its models: msgpack over a socket."""

import asyncio
import selectors
import socket
import threading
from contextlib import suppress
from typing import Any

import msgpack

_CHUNK = 1 << 18  # bytes read at a time
_AT_ONCE = socket.MSG_DONTWAIT
_RETRY = 0.001  # seconds until a full socket is tried again

# As Python's own strings: half of a surrogate pair is for the model's tokeniser to refuse.
_UNICODE = "surrogatepass"


class Wire:
    """One end of a connection. A message is a list whose first item is its kind.

    Any thread may send; one receives. To a peer that has gone nothing is sent, without an error:
    who receives is told.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._sender: asyncio.AbstractEventLoop | None = None  # that sends it soon
        self._unpacker = msgpack.Unpacker(unicode_errors=_UNICODE, max_buffer_size=0)

    def put(self, *message: Any) -> None:
        """Have a message sent with the next ones."""
        packed = msgpack.packb(message, unicode_errors=_UNICODE)
        with self._lock:
            self._unsent += packed

    def send(self, *message: Any) -> None:
        """Send all messages, and this one; wait until the socket takes them."""
        if message:
            self.put(*message)
        with self._lock:
            with suppress(OSError):  # the peer has gone
                self._socket.sendall(self._unsent)
            self._unsent.clear()

    def send_soon(self, *message: Any) -> None:
        """Send a message without waiting, on an event loop, with others of the same moment."""
        self.put(*message)
        loop = asyncio.get_running_loop()
        if self._sender is not loop:
            self._sender = loop
            loop.call_soon(self._send_some)

    def receive(self, *, wait: bool) -> list[list[Any]] | None:
        """All messages that have come; None if the peer has gone.

        Args:
            wait: for one at least.
        """
        messages: list[list[Any]] = []
        while True:
            try:
                data = self._socket.recv(_CHUNK, 0 if wait and not messages else _AT_ONCE)
            except BlockingIOError:
                return messages
            except OSError:
                return messages or None
            if not data:
                return messages or None
            self._unpacker.feed(data)
            messages += self._unpacker
            if len(data) < _CHUNK and (messages or not wait):
                return messages

    def wait(self, seconds: float) -> None:
        """Wait until something has come, or so long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.select(seconds)

    def fileno(self) -> int:
        """The socket's, for an event loop that waits for messages."""
        return self._socket.fileno()

    def close(self) -> None:
        """Tell the peer that nothing more comes."""
        with self._lock:
            with suppress(OSError):  # it has gone already
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _send_some(self) -> None:
        with self._lock:
            try:
                sent = self._socket.send(self._unsent, _AT_ONCE) if self._unsent else 0
            except BlockingIOError:
                sent = 0
            except OSError:  # the peer has gone
                sent = len(self._unsent)
            del self._unsent[:sent]
            self._sender = None
            if self._unsent:  # the socket is full
                self._sender = asyncio.get_running_loop()
                self._sender.call_later(_RETRY, self._send_some)
