"""Owns the ASGI entry: the admin, "My usage" and static files go to Django's own handler, all else is a call.

The lifespan starts and ends what runs beside the calls: the threads of the ledger and the keyring, the limiter's and
budgets' tasks, and upstream's pool.
"""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
django_application = get_asgi_application()  # sets Django up: what follows may import models

from chatproxy.http import content_type, host_header  # noqa: E402  (after Django is set up)
from chatproxy.http.head_refusal import refuse_head  # noqa: E402  (after Django is set up)
from chatproxy.pages.django_gate import DjangoGate  # noqa: E402  (after Django is set up)
from chatproxy.processes.shutdown import run_steps  # noqa: E402  (after Django is set up)
from chatproxy.root_path import RootPath  # noqa: E402  (after Django is set up)
from proxyapi.call.background_responses import watch_pending  # noqa: E402  (after Django is set up)
from proxyapi.call.caller_connection import Receive, Send  # noqa: E402  (after Django is set up)
from proxyapi.call.capacity import capacity  # noqa: E402  (after Django is set up)
from proxyapi.dispatch.handler import CallHandler  # noqa: E402  (after Django is set up)
from proxyapi.keys.keyring import keyring  # noqa: E402  (after Django is set up)
from proxyapi.limits.limiter import limiter  # noqa: E402  (after Django is set up)
from proxyapi.object_owners import ownership  # noqa: E402  (after Django is set up)
from proxyapi.strangers.body_memory import stranger_budget  # noqa: E402  (after Django is set up)
from proxyapi.upstream import client as upstream  # noqa: E402  (after Django is set up)
from usage.ledger import ledger  # noqa: E402  (after Django is set up)
from usage.live.status import build_report  # noqa: E402  (after Django is set up)
from usage.live.worker_files import WorkerFile  # noqa: E402  (after Django is set up)
from usage.money.reservations import reservations  # noqa: E402  (after Django is set up)

# An export is an ordinary iterator, which Django's handler reads whole.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

call_handler = CallHandler()
django_gate = DjangoGate(django_application)
root_path = RootPath(settings.ROOT_PATH)
YOUNG_OBJECTS = 10_000
DJANGO_FOLDERS = ("/admin/", "/my-usage/", "/static/")


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await run_lifespan(receive, send)
        return
    scope = root_path.taken_off(scope)
    if not host_header.has_valid_host(scope):
        await refuse_head(scope, send, host_header.WORDS)
    elif not content_type.has_short_content_type(scope):
        await refuse_head(scope, send, content_type.WORDS)
    elif f"{scope['path']}/".startswith(DJANGO_FOLDERS):
        await django_gate(scope, receive, send)
    else:
        await call_handler(scope, receive, send)


async def run_lifespan(receive: Receive, send: Send) -> None:
    await receive()
    worker = WorkerFile(say_how_we_are)
    try:
        ledger.start()
        worker.start()
    except OSError as error:
        await send({"type": "lifespan.startup.failed", "message": f"the journal cannot be written: {error}"})
        return
    keyring.start()
    await limiter.start()
    await reservations.open()
    tasks = [asyncio.create_task(watch_pending()), asyncio.create_task(ownership.sweep_forever())]
    gc.collect()
    gc.freeze()  # what is here now stays: the collector need not look at it again and again
    gc.set_threshold(YOUNG_OBJECTS)  # a call makes hundreds and lets nearly all of them go by itself
    await send({"type": "lifespan.startup.complete"})
    await receive()

    def end_tasks() -> asyncio.Future[list[Any]]:
        for task in tasks:
            task.cancel()
        return asyncio.gather(*tasks, return_exceptions=True)

    await run_steps(
        {
            "tasks beside the calls": end_tasks,
            "upstream's connections": upstream.close,
            "limits": limiter.stop,
            "reservations": reservations.close,
            "keyring": keyring.stop,
            "ledger": ledger.stop,
            "worker file": worker.stop,
        }
    )
    await send({"type": "lifespan.shutdown.complete"})


def say_how_we_are() -> dict[str, Any]:
    """For the dashboard and `/metrics`, once a second."""
    gauges = {
        "keyring_age_seconds": keyring.age,
        "redis_away_seconds": limiter.away_seconds,
        "stranger_bytes": stranger_budget.held,
    }
    return build_report(in_flight=capacity.in_flight, draining=capacity.draining, gauges=gauges)


def begin_drain() -> None:
    """Called by the worker when it is told to stop: calls upstream go on, no new one starts."""
    capacity.drain()
