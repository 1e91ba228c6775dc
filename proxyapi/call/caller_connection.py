"""The interface of a call to its caller's connection, for what ASGI cannot express.

`chatproxy.http.protocol` implements it, and puts itself into the scope of each call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

# The three arguments with which ASGI calls an application: the request's head (`Scope`), a function that waits for the
# next event, such as a piece of the body (`Receive`), and one that sends a part of the response (`Send`).
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, object]], Awaitable[None]]


class CallerConnection(Protocol):
    """Interface to the client's connection on which a request came, and on which its answer is sent."""

    @property
    def is_known(self) -> bool:
        """True once a valid key has been sent on this connection."""

    @property
    def has_whole_body(self) -> bool:
        """True once receiving the request's body does not wait: the body has arrived whole, or the client has left."""

    @property
    def takes_bytes(self) -> bool:
        """True while bytes can be sent at once, because the client has read enough of those that were sent before."""

    @property
    def is_trusted_proxy(self) -> bool:
        """True if the connection comes from one of the proxies that the setting `TRUSTED_PROXIES` lists."""

    def mark_known(self) -> None:
        """Records that a valid key was sent on this connection, which may therefore be idle for longer."""

    def watch_departure(self, departed: Callable[[], None]) -> None:
        """Makes the connection call the function `departed` if the client hangs up before its answer is complete."""

    def forget_departure(self, departed: Callable[[], None]) -> None:
        """Cancels `watch_departure`: the function `departed` is no longer called when the client hangs up."""

    def send_whole(self, status: int, lines: bytes, body: bytes) -> bool:
        """Sends a whole answer, if that is possible without waiting for the client; else sends nothing.

        `lines` are the header lines, each with its line end; Content-Length is among them. Returns whether the answer
        was sent.
        """

    def send_now(self, chunk: bytes) -> bool:
        """Sends a piece of an answer that has begun, if that is possible without waiting for the client.

        Returns whether the piece was sent; if not, nothing was.
        """

    def close_behind_answer(self, *, discard: bool) -> None:
        """Makes the connection close after the answer, because the rest of the request's body is not wanted.

        With `discard`, that rest is read for a while and dropped, so that a client that is still sending sees the
        answer; without it, the rest stays unread.
        """

    def abort(self) -> None:
        """Closes the connection at once, even in the middle of an answer.

        Bytes that the client has not read yet are lost.
        """

    def answer_until_close(self) -> None:
        """Makes the answer end where the connection closes: it states no length and has no chunks (RFC 9112, 6.3)."""


def close_if_unread(connection: CallerConnection) -> None:
    """Makes the connection close after the answer if the request's body has not arrived whole.

    The rest of the body is not read.
    """
    if not connection.has_whole_body:
        connection.close_behind_answer(discard=False)


def connection_of(scope: Scope) -> CallerConnection:
    """Returns the client's connection from a request's ASGI scope, into which the HTTP server has put it."""
    return cast(CallerConnection, scope["extensions"]["chatproxy"]["connection"])


def root_path_of(scope: Scope) -> str:
    """Returns, from a request's ASGI scope, the path under which clients reach the gateway, such as `/ai`; else empty.

    It has no slash at its end. `chatproxy.root_path` has put it into the scope.
    """
    return cast(str, scope["extensions"]["chatproxy"].get("root_path", ""))
