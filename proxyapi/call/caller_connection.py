"""Owns what a call may ask of its caller's connection, beyond what ASGI has words for; `chatproxy.http.protocol` is
one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

# The two callables with which ASGI calls an application: they wait for an event of the request, and send one of the
# response.
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class CallerConnection(Protocol):
    @property
    def is_known(self) -> bool:
        """Whether a good key was shown on it."""

    @property
    def has_whole_body(self) -> bool:
        """Whether the request is complete: then receiving it waits for nothing."""

    @property
    def takes_bytes(self) -> bool:
        """Whether something can be sent without waiting until the caller has taken more."""

    @property
    def is_trusted_proxy(self) -> bool:
        """Whether its other end is one of `TRUSTED_PROXIES`."""

    def mark_known(self) -> None:
        """A good key was shown on it: from now on it may be idle for long, and is among the last to be closed."""

    def watch_departure(self, departed: Callable[[], None]) -> None:
        """Calls `departed` if the caller hangs up before its answer is complete."""

    def forget_departure(self, departed: Callable[[], None]) -> None:
        """The call has ended: nobody cares any more."""

    def body_follows(self) -> None:
        """The head that is sent next may wait for the body, which is sent at once after it."""

    def send_now(self, chunk: bytes) -> bool:
        """Sends a piece of an answer in chunks that has begun. False, and nothing is sent, if that would wait."""

    def close_behind_answer(self, *, discard: bool) -> None:
        """Closes once the answer has been sent, because more of the request's body may come, and nobody wants it.

        Nothing more is read; with `discard` it is read for a while and dropped.
        """

    def abort(self) -> None:
        """Cuts it at once; what is on its way to the caller is lost."""

    def answer_until_close(self) -> None:
        """The answer will have no length and no chunks: it ends with the connection (RFC 9112, 6.3)."""


def close_if_unread(connection: CallerConnection) -> None:
    """Closes behind the answer if more of the request's body may come, and reads nothing of it."""
    if not connection.has_whole_body:
        connection.close_behind_answer(discard=False)


def connection_of(scope: Mapping[str, Any]) -> CallerConnection:
    return cast(CallerConnection, scope["extensions"]["chatproxy"]["connection"])


def root_path_of(scope: Mapping[str, Any]) -> str:
    """The path under which the client reaches the gateway, without a slash at its end (`chatproxy.root_path`)."""
    return cast(str, scope["extensions"]["chatproxy"].get("root_path", ""))
