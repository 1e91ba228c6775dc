"""What we use of uvicorn beyond its documented interface, by name: a version that has it no more fails here with words.

`chatproxy.http.request_reader` and `chatproxy.http.protocol` are subclasses of uvicorn's protocol, and
`chatproxy.processes.draining_server` of its server. None of that is documented; each name below was read in uvicorn's
source.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

# Methods that we override or call, with the parameters that we rely on.
METHODS: dict[Callable[..., Any], list[str]] = {
    HttpToolsProtocol.__init__: ["self", "config", "server_state", "app_state", "_loop"],
    HttpToolsProtocol.connection_made: ["self", "transport"],
    HttpToolsProtocol.connection_lost: ["self", "exc"],
    HttpToolsProtocol.data_received: ["self", "data"],
    HttpToolsProtocol._start_asgi_task: ["self", "cycle", "app"],
    HttpToolsProtocol._unset_keepalive_if_required: ["self"],
    HttpToolsProtocol.send_400_response: ["self", "msg"],
    HttpToolsProtocol.on_message_begin: ["self"],
    HttpToolsProtocol.on_header: ["self", "name", "value"],
    HttpToolsProtocol.on_headers_complete: ["self"],
    HttpToolsProtocol.on_body: ["self", "body"],
    HttpToolsProtocol.on_message_complete: ["self"],
    HttpToolsProtocol.on_response_complete: ["self"],
    HttpToolsProtocol.pause_writing: ["self"],
    HttpToolsProtocol.resume_writing: ["self"],
    HttpToolsProtocol.shutdown: ["self"],
    FlowControl.pause_reading: ["self"],
    FlowControl.resume_reading: ["self"],
    Server.__init__: ["self", "config"],
    Server.capture_signals: ["self"],
    Server.on_tick: ["self", "counter"],
    Server.serve: ["self", "sockets"],
    Server.startup: ["self", "sockets"],
    Server.shutdown: ["self", "sockets"],
}
# Attributes that uvicorn sets and we read, or that we set and uvicorn reads.
OF_CONNECTION = {
    "client", "config", "cycle", "flow", "headers", "loop", "parser", "pipeline", "scope", "timeout_keep_alive",
    "timeout_keep_alive_task", "transport",
}  # fmt: skip
OF_REQUEST = {
    "body", "chunked_encoding", "default_headers", "disconnected", "expected_content_length", "keep_alive",
    "message_event", "more_body", "on_response", "response_complete", "response_started",
}  # fmt: skip
OF_FLOW = {"read_paused", "write_paused"}
OF_SERVER = {"config", "server_state", "should_exit", "started"}

WORDS = f"uvicorn {uvicorn.__version__} has changed; read its source, and chatproxy.http.protocol, anew: "


async def application(_scope: object, _receive: object, _send: object) -> None: ...


def config() -> uvicorn.Config:
    return uvicorn.Config(cast(Any, application), lifespan="off", log_config=None)


def make_request() -> RequestResponseCycle:
    log = logging.getLogger("uvicorn")
    return RequestResponseCycle(
        scope=cast(Any, {}),
        transport=asyncio.Transport(),
        flow=FlowControl(asyncio.Transport()),
        logger=log,
        access_logger=log,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__qualname__)
def test_a_method_takes_what_we_give_it(method: Callable[..., Any]) -> None:
    assert list(inspect.signature(method).parameters) == METHODS[method], WORDS + method.__qualname__


async def test_the_attributes_are_there() -> None:
    loaded = config()
    loaded.load()
    owners: list[tuple[object, set[str]]] = [
        (HttpToolsProtocol(loaded, ServerState(), {}), OF_CONNECTION),
        (make_request(), OF_REQUEST),
        (FlowControl(asyncio.Transport()), OF_FLOW),
        (Server(loaded), OF_SERVER),
        (ServerState(), {"connections", "tasks"}),
    ]
    for owner, names in owners:
        missing = {name for name in names if not hasattr(owner, name)}
        assert not missing, f"{WORDS}{type(owner).__name__} lacks {', '.join(sorted(missing))}"


async def test_a_request_keeps_its_body_in_a_bytearray_and_waits_in_a_deque() -> None:
    loaded = config()
    loaded.load()
    assert isinstance(make_request().body, bytearray), WORDS + "a body was freed by putting an empty bytearray there"
    assert HttpToolsProtocol(loaded, ServerState(), {}).pipeline.maxlen is None, WORDS + "pipeline"
