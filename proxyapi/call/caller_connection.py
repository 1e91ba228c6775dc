"""Interface through which a call uses its caller's connection, for things that ASGI cannot express.

`chatproxy.http.protocol` implements the interface, and puts its connection object into the ASGI scope of each call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

# The three arguments with which ASGI calls an application: the request's head (`Scope`), a function that waits for the
# next event, such as a piece of the body (`Receive`), and one that sends a part of the response (`Send`).
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]  # an event is a dictionary, too
Send = Callable[[Mapping[str, object]], Awaitable[None]]


class CallerConnection(Protocol):
    """Interface of the client's connection, on which the request came and the answer goes."""

    @property
    def is_known(self) -> bool:
        """True once a valid key has been sent on this connection."""

    @property
    def has_whole_body(self) -> bool:
        """True once the request's body can be read without waiting: it has arrived whole, or the client has left."""

    @property
    def takes_bytes(self) -> bool:
        """True while more bytes can be sent without a wait, because the client keeps reading."""

    @property
    def is_trusted_proxy(self) -> bool:
        """True if the connection comes from one of the proxies that the setting `TRUSTED_PROXIES` lists."""

    def mark_known(self) -> None:
        """Records that a valid key was sent on this connection; the connection may then be idle for longer."""

    def watch_departure(self, departed: Callable[[], None]) -> None:
        """Makes the connection call the function `departed` if the client hangs up before the answer is complete."""

    def forget_departure(self, departed: Callable[[], None]) -> None:
        """Stops watching for the client's hang-up: the connection will not call the function `departed` any more."""

    def send_whole(self, status: int, lines: bytes, body: bytes) -> bool:
        """Sends a whole answer if the client can take it without a wait; returns whether the answer was sent.

        `lines` are the header lines, each with its line end, Content-Length among them.
        """

    def send_now(self, chunk: bytes) -> bool:
        """Sends the next piece of an answer if the client can take it without a wait; returns whether it was sent."""

    def close_behind_answer(self, *, discard: bool) -> None:
        """Makes the connection close after the answer, for a request whose body was not read to its end.

        If `discard` is true, the connection first receives and drops the rest of the body for a while. So a client that
        is still sending gets the answer.
        """

    def abort(self) -> None:
        """Closes the connection at once, even in the middle of an answer; bytes that were not sent yet are lost."""

    def answer_until_close(self) -> None:
        """Makes the answer end with the close of the connection, without Content-Length or chunks (RFC 9112, 6.3)."""


def close_if_unread(connection: CallerConnection) -> None:
    """Makes the connection close after the answer if the request's body has not arrived whole; the rest is not read."""
    if not connection.has_whole_body:
        connection.close_behind_answer(discard=False)


def connection_of(scope: Scope) -> CallerConnection:
    """Returns the client's connection from a request's ASGI scope, where the HTTP server has stored it."""
    return cast(CallerConnection, scope["extensions"]["chatproxy"]["connection"])


def root_path_of(scope: Scope) -> str:
    """Returns the path prefix under which clients reach the gateway, such as `/ai`, or an empty text if there is none.

    `chatproxy.root_path` has stored the prefix in the request's ASGI `scope`.
    """
    return cast(str, scope["extensions"]["chatproxy"].get("root_path", ""))
