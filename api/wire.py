"""uvicorn's reading of HTTP, with a limit on what stands before a request's body: without one a client that never ends
its headers fills the memory."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from barwright.api.errors import ApiError

MOST = 64 * 1024  # bytes of a request line and headers, after the packet they begin in
LINGER = 1.0  # seconds of what is sent on after that, unread: closed at once, the refusal may be lost on its way


class Bounded(HttpToolsProtocol):
    """One connection."""

    moved = refused = False  # a request, its body or its end came in this packet; what is around bodies was too long
    head = 0

    def data_received(self, data: bytes) -> None:
        """Some bytes of a client."""
        if self.refused:
            return
        self.moved = False
        super().data_received(data)
        # Also between and after the chunks of a body: uvicorn keeps a body's trailers, however many there are.
        self.head = 0 if self.moved else self.head + len(data)
        if self.head > MOST:
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.moved = True

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        super().on_body(body)
        self.moved = True

    def on_message_complete(self) -> None:
        """Its end."""
        super().on_message_complete()
        self.moved = True

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in our words instead of uvicorn's."""
        self._answer(b"400 Bad Request", ApiError(400, "bad_request", msg, "Speak HTTP/1.1."))
        self.transport.close()

    def _refuse(self) -> None:
        self.refused = True
        message = f"The headers have more than {MOST} bytes."
        error = ApiError(431, "headers_too_large", message, details={"maximum": MOST})
        self._answer(b"431 Request Header Fields Too Large", error)
        self.loop.call_later(LINGER, self.transport.close)

    def _answer(self, status: bytes, error: ApiError) -> None:
        body = error.body()
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, len(body), body)
        )
