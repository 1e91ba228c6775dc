"""What was received and how its answer went: `ReceivedRequest`, kept by a thread-safe `Recorder`.

The recorder's condition is notified of every change, so a test waits for a state instead of sleeping.
"""

import base64
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from tests.simulator.wire.multipart import Form, UploadedFile, parse_form

Outcome = Literal["pending", "completed", "disconnected", "cut"]
KEPT_REQUESTS = 100_000


@dataclass
class ReceivedRequest:
    """A request exactly as the simulator has received it.

    The names of `headers` are in lower case; their order and repeated ones are kept. `body` is unchanged. `path` is
    decoded, `raw_path` and `query` are as they came. `discarded` is how many bytes of a body were not kept.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    raw_path: str = ""
    discarded: int = 0
    outcome: Outcome = "pending"
    events_sent: int = 0
    status: int | None = None
    timestamp: float = field(default_factory=time.time)

    def header(self, name: str) -> str | None:
        """Returns the first value of the header `name`, whose case does not matter; None if there is no such header."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @cached_property
    def json(self) -> Any:
        """The request's body, parsed as JSON; raises `ValueError` if it is not valid JSON."""
        return orjson.loads(self.body)

    @cached_property
    def _form(self) -> Form:
        return parse_form(self.header("content-type") or "", self.body)

    @property
    def form(self) -> dict[str, list[str]]:
        """The fields of the multipart form in the request's body; raises `ValueError` if the body is no such form."""
        return self._form.fields

    @property
    def files(self) -> list[UploadedFile]:
        return self._form.files

    def as_json(self) -> dict[str, Any]:
        """Returns the request as a JSON object, for `GET /_simulator/requests`.

        A body that is not UTF-8 is in `body_base64`.
        """
        try:
            body = {"body": self.body.decode()}
        except UnicodeDecodeError:
            body = {"body_base64": base64.b64encode(self.body).decode()}
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            **body,
            "outcome": self.outcome,
            "events_sent": self.events_sent,
            "status": self.status,
            "timestamp": self.timestamp,
        }


class Recorder:
    """The record of the newest requests, and of the answers that are not finished."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._requests: deque[ReceivedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._in_flight: dict[int, ReceivedRequest] = {}  # by their `id`, which no other has while they are here

    @property
    def requests(self) -> list[ReceivedRequest]:
        with self.changed:
            return list(self._requests)

    @property
    def in_flight(self) -> int:
        with self.changed:
            return len(self._in_flight)

    def clear(self) -> None:
        """Forgets all requests, also those that are still in flight: they belong to the test before."""
        with self.changed:
            self._requests.clear()
            self._in_flight.clear()
            self.changed.notify_all()

    def began(self, request: ReceivedRequest) -> None:
        with self.changed:
            self._in_flight[id(request)] = request
            self.changed.notify_all()

    def received(self, request: ReceivedRequest) -> None:
        """Records a request whose body has arrived, unless the record was cleared since the request began."""
        with self.changed:
            if id(request) in self._in_flight:
                self._requests.append(request)
                self.changed.notify_all()

    def answered(self, request: ReceivedRequest, status: int) -> None:
        """Records the status of the answer to a request, before the answer's head is sent."""
        with self.changed:
            request.status = status
            self.changed.notify_all()

    def progressed(self, request: ReceivedRequest, events_sent: int) -> None:
        with self.changed:
            request.events_sent = events_sent
            self.changed.notify_all()

    def ended(self, request: ReceivedRequest, outcome: Outcome) -> None:
        """Records how the answer to a request ended.

        May be called twice: "completed" is recorded before the last byte leaves, and replaced if that byte could not be
        sent.
        """
        with self.changed:
            request.outcome = outcome
            self._in_flight.pop(id(request), None)
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[], object], timeout: float) -> None:
        """Waits until a condition is true; it is checked whenever the record changes.

        Raises:
            TimeoutError: it was not true within `timeout` seconds.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: bool(condition()), timeout):
                seen = [(request.method, request.path, request.outcome) for request in list(self._requests)[-5:]]
                raise TimeoutError(f"not within {timeout} s; {len(self._in_flight)} in flight, last requests: {seen}")
