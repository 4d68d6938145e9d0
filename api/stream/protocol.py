"""WebSockets as uvicorn serves them, but that a close reaches who does not read, and who is still sending."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_BYTES = 65_536  # of a client's message; longer ones end the connection (1009). Ours are refused above 4 KiB.


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn waits until the client has read before it sends anything, so a client that reads too slowly would never
    be told; and it waits for ever until the rest has been read. It answers pings without asking whether anybody reads
    the answers: a client that sends nothing else, and never reads, would fill the memory."""

    pongs = b""  # the last that could not be sent, of one packet: RFC 6455 asks for no older ones

    def handle_ping(self) -> None:
        """A ping: its answer is in the connection's hands already."""
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pongs)
        else:
            self.pongs = pongs

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        pongs, self.pongs = self.pongs, b""
        if pongs:
            self.transport.write(pongs)

    async def send(self, message: Any) -> None:
        """One message of the application."""
        if message["type"] != "websocket.close" or not self.handshake_complete:
            await super().send(message)
            return
        self.writable.set()
        await super().send(message)
        self.loop.call_later(self.close_timeout, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """A message that is too big, or none at all; called again for all that still comes, which is dropped for a
        while: to who sends into a connection that is closed the kernel sends a reset, and the reason is lost with it.
        """
        if self.close_sent:
            return
        self.close_sent, why = True, self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": why.code if why else 1006})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():  # not by TLS
            self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
