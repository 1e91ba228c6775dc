"""The interface of a call to its caller's connection, for what ASGI cannot express.

`chatproxy.http.protocol` implements it, and puts itself into the scope of each call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

# The scope with which ASGI calls an application, and the two callables: one waits for an event of the request, the
# other sends one of the response.
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, object]], Awaitable[None]]


class CallerConnection(Protocol):
    """The connection on which a call came, and on which its answer goes back."""

    @property
    def is_known(self) -> bool:
        """True once a valid key has been seen on the connection."""

    @property
    def has_whole_body(self) -> bool:
        """True once the whole request has arrived, so that receiving it does not wait."""

    @property
    def takes_bytes(self) -> bool:
        """True while bytes can be sent without waiting for the caller to take those before them."""

    @property
    def is_trusted_proxy(self) -> bool:
        """True if the peer is one of `TRUSTED_PROXIES`."""

    def mark_known(self) -> None:
        """Records that a valid key was seen on the connection, which may now be idle longer than a stranger's."""

    def watch_departure(self, departed: Callable[[], None]) -> None:
        """Calls `departed` if the caller hangs up before its answer is complete."""

    def forget_departure(self, departed: Callable[[], None]) -> None:
        """Stops watching whether the caller hangs up, because the call has ended (undoes `watch_departure`)."""

    def body_follows(self) -> None:
        """Announces that a body follows the next head at once, so that both can leave in one write."""

    def send_now(self, chunk: bytes) -> bool:
        """Sends a chunk of an answer that has begun. Returns False, and sends nothing, if that would have to wait."""

    def close_behind_answer(self, *, discard: bool) -> None:
        """Closes the connection once the answer has been sent, because the rest of the request's body is not wanted.

        That rest is not read. With `discard` it is read for a while and dropped, so that the caller sees the answer.
        """

    def abort(self) -> None:
        """Cuts the connection at once. Bytes that the caller has not taken yet are lost."""

    def answer_until_close(self) -> None:
        """Announces an answer without a length or chunks, which ends with the connection (RFC 9112, 6.3)."""


def close_if_unread(connection: CallerConnection) -> None:
    """Closes the connection behind the answer if some of the request's body has not arrived; reads nothing of it."""
    if not connection.has_whole_body:
        connection.close_behind_answer(discard=False)


def connection_of(scope: Scope) -> CallerConnection:
    """Returns the connection from the ASGI scope of a call."""
    return cast(CallerConnection, scope["extensions"]["chatproxy"]["connection"])


def root_path_of(scope: Scope) -> str:
    """Returns the path under which the client reaches the gateway, without a slash at its end.

    `chatproxy.root_path` has put it into the ASGI scope.
    """
    return cast(str, scope["extensions"]["chatproxy"].get("root_path", ""))
