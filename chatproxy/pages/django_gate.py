"""Owns what of a request reaches Django's own handler, which by itself takes a body of any size, on disk, for ever.

In order: the Host, the method, then the body, which is whole and in memory before Django hears of the request; and the
pace of whoever has not signed in (`chatproxy.pages.page_pace`). No page behind it has an upload: Django takes 1000
fields (DATA_UPLOAD_MAX_NUMBER_FIELDS), and a list's action on 1000 selected rows, each a UUID, is under
`MAX_PAGE_BODY_BYTES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest

from chatproxy.pages.page_pace import cookies_of, page_pace, visitor_of
from chatproxy.root_path import django_scope
from proxyapi.call.caller_connection import CallerConnection, Receive, Send, close_if_unread, connection_of
from proxyapi.call.capacity import capacity
from proxyapi.exceptions import BadRequest, BodyTooLarge, CallerGone, MethodNotAllowed, ProxyError, RequestTimeout
from proxyapi.strangers.answer_pace import stranger_pace
from proxyapi.strangers.body_memory import stranger_budget
from proxyapi.upstream.passed_headers import INERT

MAX_PAGE_BODY_BYTES = 64 * 1024
BODY_SECONDS = 30.0
STATIC = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110, 9.2.1


class DjangoGate:
    """An ASGI application in front of Django's."""

    def __init__(self, application: ASGIHandler) -> None:
        self._application = application

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
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

            async def send_after_turn(message: Mapping[str, Any]) -> None:
                """The page is made; how fast the client takes it is not the next one's business."""
                await turn.aclose()
                await send(message)

            await self._application(django_scope(scope), Replay(body, receive, connection), send_after_turn)


async def receive_body(scope: Mapping[str, Any], receive: Receive) -> bytes:
    """The body that Django may see; empty, and not received, for methods that need none.

    Raises:
        BadRequest: the Host is not in ALLOWED_HOSTS. Static files have any: `/docs` needs them.
        MethodNotAllowed: a method for which no static file has an answer.
        BodyTooLarge: it is over `MAX_PAGE_BODY_BYTES`, or says that it will be.
        RequestTimeout: it was not there within `BODY_SECONDS`.
        CallerGone: it will never be.
    """
    method = scope["method"]
    if scope["path"].startswith(STATIC):
        if method not in SAFE_METHODS:
            raise MethodNotAllowed([*SAFE_METHODS])
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


def client_address(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {MAX_PAGE_BODY_BYTES} bytes.")


def check_host(scope: Mapping[str, Any]) -> None:
    """Raises `BadRequest` where Django would raise `DisallowedHost`."""
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
    """ASGI's `receive` for Django: the body that was read, then the caller's departure."""

    def __init__(self, body: bytes, receive: Receive, connection: CallerConnection) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._connection = connection

    async def __call__(self) -> Mapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._connection.has_whole_body:  # waiting for the departure would read what is to stay unread
            await asyncio.Event().wait()  # until Django has answered and cancels this
        while (message := await self._receive())["type"] != "http.disconnect":
            pass  # a body that came with the head, and is not wanted
        return message


async def refuse(error: ProxyError, send: Send) -> None:
    """Answers with the error in plain text: nobody who uses the pages sees it."""
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
