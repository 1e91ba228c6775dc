"""The gate in front of Django's own handler, which by itself accepts a body of any size, on disk, for any time.

It checks the Host, then the method, then receives the body, so that Django gets a request with its whole body in
memory. A client that has not signed in waits for its turn (`chatproxy.page_protection.page_pace`).

No page behind the gate has an upload. The largest form is an action on 1000 selected rows (Django accepts no more
fields), each with a UUID, and that is less than `MAX_PAGE_BODY_BYTES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from asgiref.typing import HTTPScope
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from chatproxy.page_protection.django_pages import DjangoPages
from chatproxy.page_protection.page_pace import cookies_of, page_pace, visitor_of
from chatproxy.root_path import django_scope
from proxyapi.call.caller_connection import CallerConnection, Receive, Send, close_if_unread, connection_of
from proxyapi.call.capacity import capacity
from proxyapi.exceptions import BadRequest, BodyTooLarge, CallerGone, MethodNotAllowed, ProxyError, RequestTimeout
from proxyapi.unauthenticated.answer_pace import stranger_pace
from proxyapi.unauthenticated.body_memory import stranger_budget
from proxyapi.upstream.passed_headers import INERT

MAX_PAGE_BODY_BYTES = 64 * 1024
BODY_SECONDS = 30.0
STATIC = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110, 9.2.1


class DjangoGate:
    """ASGI application in front of Django's pages: checks a request, receives its body, and passes both to Django.

    The request of a client without a login waits until it may run (`chatproxy.page_protection.page_pace`).
    """

    def __init__(self, application: DjangoPages) -> None:
        self._application = application

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        cookies = cookies_of(scope)
        is_counted = not page_pace.has_good_cookie(cookies)
        async with AsyncExitStack() as turn:
            try:
                if is_counted:
                    visitor = visitor_of(cookies, client_address(scope))
                    if not visitor.is_known:
                        await stranger_pace.wait(client_address(scope))
                body = await receive_body(scope, receive)
                if is_counted and not scope["path"].startswith(STATIC):
                    await turn.enter_async_context(page_pace.turn(visitor, scope["method"], scope["path"]))
            except CallerGone:
                return
            except ProxyError as error:
                close_if_unread(connection)
                await refuse(error, send)
                return
            close_if_unread(connection)

            async def send_after_turn(message: Mapping[str, object]) -> None:
                """Ends this request's turn, then sends a message of Django's answer to the client."""
                # Django has made the page by now: the next request need not wait until this client has read it.
                await turn.aclose()
                await send(message)

            await self._application(django_scope(scope), Replay(body, receive, connection), send_after_turn)


async def receive_body(scope: HTTPScope, receive: Receive) -> bytes:
    """Checks the Host and the method of a request for a page; returns the body of a POST, or empty bytes.

    Raises:
        BadRequest: the Host is not in ALLOWED_HOSTS (static files may have any).
        MethodNotAllowed: a static file is requested with a method other than GET, HEAD or OPTIONS.
        BodyTooLarge: the body, or its Content-Length, is more than `MAX_PAGE_BODY_BYTES`.
        RequestTimeout: the body was not complete within `BODY_SECONDS`, or in less if the worker drains.
        CallerGone: the client has left before the body was complete.
    """
    method = scope["method"]
    if scope["path"].startswith(STATIC):
        if method not in SAFE_METHODS:
            raise MethodNotAllowed([*SAFE_METHODS])
        # for any Host, since `/docs` needs them
        return b""
    check_host(scope)
    if method != "POST":
        return b""
    announced = dict(scope["headers"]).get(b"content-length", b"")
    if announced.isdigit() and int(announced) > MAX_PAGE_BODY_BYTES:
        raise too_large()
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_SECONDS) as patience:
            with capacity.receiving(patience), stranger_budget.share(client_address(scope)) as share:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise CallerGone
                    pieces.append(message["body"])
                    share.add(len(message["body"]))
                    if share.size > MAX_PAGE_BODY_BYTES:
                        raise too_large()
                    more = message["more_body"]
    except TimeoutError:
        raise RequestTimeout from None
    return b"".join(pieces)


def client_address(scope: HTTPScope) -> str:
    """Returns the IP address of a request's client, or "" if the client has left already."""
    client = scope.get("client")
    return client[0] if client else ""


def too_large() -> BodyTooLarge:
    """Creates the error for a request for a page whose body has more than `MAX_PAGE_BODY_BYTES`."""
    return BodyTooLarge(f"The request body is larger than {MAX_PAGE_BODY_BYTES} bytes.")


def check_host(scope: HTTPScope) -> None:
    """Checks that the Host of a request is one of ALLOWED_HOSTS, as Django does for each page.

    Raises:
        BadRequest: the Host is not one of them (Django would raise `DisallowedHost`).
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    request = HttpRequest()
    request.META["SERVER_NAME"], request.META["SERVER_PORT"] = map(str, scope.get("server") or ("unknown", 0))
    if hosts:
        request.META["HTTP_HOST"] = ",".join(hosts)
    try:
        request.get_host()
    except DisallowedHost:
        raise BadRequest("This Host is not one of ALLOWED_HOSTS.") from None


class Replay:
    """The ASGI function `receive` that Django gets: the first call returns the body, which has arrived already.

    The next call waits until the client leaves, or until Django has answered and cancels it.
    """

    def __init__(self, body: bytes, receive: Receive, connection: CallerConnection) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._connection = connection

    async def __call__(self) -> Mapping[str, object]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if (
            not self._connection.has_whole_body
        ):  # to notice that the client leaves, one would have to read the rest of the body
            await asyncio.Event().wait()  # until Django has answered and cancels this
        while (message := await self._receive())["type"] != "http.disconnect":
            pass  # drops an unwanted body that came with the head
        return message


async def refuse(error: ProxyError, send: Send) -> None:
    """Answers a request for a page with the status and the words of `error`, as plain text."""
    # A person who uses the pages never causes such an error, so it has no page.
    body = f"{error.words}\n".encode()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        **error.headers,
    }
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    lines.extend(INERT)
    await send({"type": "http.response.start", "status": error.status_code, "headers": lines})
    await send({"type": "http.response.body", "body": body})
