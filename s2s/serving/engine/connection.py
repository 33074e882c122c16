"""One end of the connection between a service and the process of a model."""

import asyncio
import selectors
import socket
import threading
from contextlib import suppress

from s2s.serving.engine.messages import Message, Packer, Unpacker

_CHUNK = 1 << 18  # bytes read at a time
_NOW = socket.MSG_DONTWAIT
_RETRY = 0.001  # seconds until a full socket is tried again


class Connection:
    """Sends and receives messages over a socket.

    Any thread may send; one thread at a time receives. To send to a peer that has gone is no error:
    `receive` reports it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._packer, self._unpacker = Packer(), Unpacker()
        self._unsent = bytearray()
        self._flusher: asyncio.AbstractEventLoop | None = None  # that is about to send

    def put(self, message: Message) -> None:
        """Have a message sent together with the next one."""
        with self._lock:
            self._unsent += self._packer.pack(message)

    def flush(self) -> None:
        """Send all messages that were put; wait until the socket takes them."""
        with self._lock:
            with suppress(OSError):  # the peer has gone
                self._socket.sendall(self._unsent)
            self._unsent.clear()

    def send(self, message: Message) -> None:
        """Send a message, and all that were put before; wait until the socket takes them."""
        self.put(message)
        self.flush()

    def send_soon(self, message: Message) -> None:
        """Send a message from an event loop, together with others of its turn, without waiting."""
        self.put(message)
        loop = asyncio.get_running_loop()
        if self._flusher is not loop:
            self._flusher = loop
            loop.call_soon(self._flush_some)

    def receive(self, *, wait: bool) -> list[Message] | None:
        """Return all messages that have come; None if the peer has gone.

        Args:
            wait: until there is one at least.

        Raises:
            ProtocolError: the peer's first message is of another version of the protocol.
        """
        messages: list[Message] = []
        while True:
            try:
                data = self._socket.recv(_CHUNK, 0 if wait and not messages else _NOW)
            except BlockingIOError:
                return messages
            except OSError:
                return messages or None
            if not data:
                return messages or None
            messages += self._unpacker.feed(data)
            if len(data) < _CHUNK and (messages or not wait):
                return messages

    def wait(self, seconds: float) -> None:
        """Wait until something has come, or so long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.select(seconds)

    def fileno(self) -> int:
        """Return the socket's descriptor, for an event loop that waits for messages."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection, which the peer notices."""
        with self._lock:
            with suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _flush_some(self) -> None:
        with self._lock:
            try:
                sent = self._socket.send(self._unsent, _NOW) if self._unsent else 0
            except BlockingIOError:
                sent = 0
            except OSError:  # the peer has gone
                sent = len(self._unsent)
            del self._unsent[:sent]
            self._flusher = None
            if self._unsent:  # the socket is full
                self._flusher = asyncio.get_running_loop()
                self._flusher.call_later(_RETRY, self._flush_some)
