"""The entry of each request: the admin, "My usage" and static files go to Django's own handler, all else to `proxyapi`.

Two checks of the request's head come first, on every path: the Host header and the length of the Content-Type.
"""

from __future__ import annotations

import warnings

from asgiref.typing import HTTPScope, LifespanScope
from django.conf import settings

from chatproxy.http import content_type, host_header
from chatproxy.http.head_refusal import refuse_head
from chatproxy.page_protection.django_gate import DjangoGate
from chatproxy.page_protection.django_pages import DjangoPages
from chatproxy.processes.lifespan import run_lifespan
from chatproxy.root_path import RootPath
from proxyapi.call.caller_connection import Receive, Send
from proxyapi.dispatch.asgi_handler import CallHandler

# An export is an ordinary iterator. Django's handler reads it to its end before it answers, and would warn of that.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

call_handler = CallHandler()
django_gate = DjangoGate(DjangoPages())
root_path = RootPath(settings.ROOT_PATH)
DJANGO_FOLDERS = ("/admin/", "/my-usage/", "/static/")


async def application(scope: HTTPScope | LifespanScope, receive: Receive, send: Send) -> None:
    """Answers one HTTP request or, for the scope `lifespan`, starts and ends the parts of a worker.

    This is the gateway's ASGI application.
    """
    if scope["type"] == "lifespan":
        await run_lifespan(receive, send)
        return
    scope = root_path.strip(scope)
    if not host_header.has_valid_host(scope):
        await refuse_head(scope, send, host_header.WORDS)
    elif not content_type.has_short_content_type(scope):
        await refuse_head(scope, send, content_type.WORDS)
    elif f"{scope['path']}/".startswith(DJANGO_FOLDERS):
        await django_gate(scope, receive, send)
    else:
        await call_handler(scope, receive, send)
