"""The ASGI app: receives, records, routes and answers; owns the order of an exchange.

read the body -> record -> key -> fault -> (wait, hang or cut) -> handler -> send, while watching for the hang-up
"""

import asyncio
import logging
from collections import deque

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content.answers import Answer, Stream, json_answer
from tests.simulator.control import control_answer
from tests.simulator.routes import find_route
from tests.simulator.wire.chance import chance
from tests.simulator.wire.connection import Connection, Receive, Scope, Send
from tests.simulator.wire.delivery import Delivery, replaced
from tests.simulator.wire.faults import NO_FAULT, Fault, fault_of_head, own_fault, requested_model
from tests.simulator.wire.gate import Gate
from tests.simulator.wire.recording import Outcome, ReceivedRequest, Recorder
from tests.simulator.world import World

_logger = logging.getLogger(__name__)


def _check_key(request: ReceivedRequest) -> None:
    scheme, _, key = (request.header("authorization") or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise errors.missing_key()
    if key.startswith("sk-invalid"):
        raise errors.invalid_key(key)


def _response_id(path: str) -> str | None:
    parts = path.split("/")
    return parts[3] if parts[:3] == ["", "v1", "responses"] and len(parts) > 3 else None


class SimulatorApp:
    def __init__(self) -> None:
        self.recorder = Recorder()
        self.gate = Gate(self.recorder.changed)
        self.queue: deque[Fault] = deque()
        self._world = World()
        self._answering: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """Forgets all requests, queued faults and stored objects; lets waiting answers go, and ends a `freeze`."""
        self.queue.clear()
        self.gate.release()
        chance.thaw()
        self._world = World()
        self.recorder.clear()

    def stop_answers(self) -> None:
        """Cuts off every answer that is not finished, so that a server can stop while some of them hang."""
        for answering in self._answering:
            answering.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the simulator speaks HTTP only, not {scope['type']}")
        connection = Connection(receive, send)
        request = ReceivedRequest(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=[(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        )
        if request.path.startswith("/_simulator/"):
            request.body, _ = await connection.read_body()
            await self._deliver(connection, request, NO_FAULT, control_answer(self, request))
            return
        self.recorder.began(request)
        outcome: Outcome = "cut"
        try:
            whole = await self._receive(connection, request)
            self.recorder.received(request)
            answered = whole and await self._exchange(connection, request)
            if not connection.was_cut:
                outcome = "completed" if answered else "disconnected"
        finally:
            self.recorder.ended(request, outcome)

    async def _receive(self, connection: Connection, request: ReceivedRequest) -> bool:
        """Receives the body of a request, and returns whether it is complete.

        A fault that the request's head asks for may prevent that: with `early` the body is not read, with `discard`
        only counted.
        """
        fault = fault_of_head(request)
        if fault.early:
            return True
        if fault.discard:
            request.discarded, whole = await connection.count_body()
        else:
            request.body, whole = await connection.read_body()
        return whole

    async def _exchange(self, connection: Connection, request: ReceivedRequest) -> bool:
        """Answers a request until the answer is complete or the client hangs up; returns whether it was completed."""
        answering = asyncio.create_task(self._answer(connection, request))
        watching = asyncio.create_task(connection.watch())
        both = {answering, watching}
        self._answering.add(answering)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if connection.was_cut:
                await asyncio.wait(both)
            elif answering.cancelled():
                await connection.cut(flush=False)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._answering.discard(answering)
        if answering.cancelled():
            return False
        answering.result()
        return True

    async def _answer(self, connection: Connection, request: ReceivedRequest) -> None:
        try:
            _check_key(request)
            fault = self._fault(request)
        except errors.ApiError as error:
            await self._deliver(connection, request, NO_FAULT, self._refusal(error))
            return
        delivery = Delivery(connection, request, fault, self.recorder, self.gate)
        if not await delivery.before_the_head():
            return
        await delivery.send(replaced(fault, request) or self._handled(request, fault))

    async def _deliver(self, connection: Connection, request: ReceivedRequest, fault: Fault, answer: Answer) -> None:
        await Delivery(connection, request, fault, self.recorder, self.gate).send(answer)

    def _fault(self, request: ReceivedRequest) -> Fault:
        try:
            fault = own_fault(request, requested_model(request), _response_id(request.path))
        except ValueError as error:
            raise errors.ApiError(400, str(error), code="unknown_fault") from None
        if fault is None and self.queue:
            fault = self.queue.popleft()
        return fault or NO_FAULT

    def _handled(self, request: ReceivedRequest, fault: Fault) -> Answer | Stream:
        """Returns a handler's answer to a request, or the error that the handler or the requested fault has raised.

        A bug in a handler becomes an answer with status 500 and a line in the log here.
        """
        try:
            if fault.status is not None:
                raise errors.of_status(fault.status)
            handler, parameters = find_route(request.method, request.path)
            return handler(Call(request, self._world, fault, parameters))
        except errors.ApiError as error:
            return self._refusal(error)
        except Exception:
            _logger.exception("simulator bug in %s %s", request.method, request.path)
            return self._refusal(errors.of_status(500))

    def _refusal(self, error: errors.ApiError) -> Answer:
        return json_answer(error.body, error.status, error.headers)
