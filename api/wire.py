"""uvicorn's reading of HTTP, with a limit on what stands before a request's body: without one a client that never ends
its headers fills the memory."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from barwright.api.errors import ApiError

MOST = 64 * 1024  # bytes of a request line and headers, after the packet they begin in
LINGER = 1.0  # seconds of what is sent on after that, unread: closed at once, the refusal may be lost on its way


class Bounded(HttpToolsProtocol):
    """One connection."""

    in_head = began = refused = False  # reading a head; one began in this packet; it was too long
    head = 0

    def data_received(self, data: bytes) -> None:
        """Some bytes of a client."""
        if self.refused:
            return
        self.began = False
        super().data_received(data)
        if self.in_head and not self.began:
            self.head += len(data)
            if self.head > MOST:
                self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.in_head, self.began, self.head = True, True, 0

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self.in_head = False
        super().on_headers_complete()

    def _refuse(self) -> None:
        self.refused = True
        error = ApiError(
            431, "headers_too_large", f"The headers have more than {MOST} bytes.", details={"maximum": MOST}
        )
        body = error.body()
        head = (
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.loop.call_later(LINGER, self.transport.close)
