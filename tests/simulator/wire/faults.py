"""Faults on demand: one grammar, parsed here into a `Fault`, carried out by `delivery.py` and `app.py`.

A fault is carried by the model name `fault:<fault>` (the rest of the request is then served as if for the
endpoint's usual model), by the header `x-simulator-fault: <fault>`, by a response id `resp_fault-<fault>` on the
`/responses/{id}` routes (served as `resp_abc123`), or by `simulator.fail_next("<fault>")`. The request's own fault
goes first and leaves the queue of `fail_next` alone. Several are joined with `+`: `events-300+pace-0.1`.

| fault            | what happens                                                                       | on       |
|------------------|------------------------------------------------------------------------------------|----------|
| `status-NNN`     | that status with OpenAI's error body; 429 says when to retry                       | any      |
| `html`           | 502 with an HTML page, as a load balancer gives                                    | any      |
| `redirect`       | 307 to `/v1/redirected`                                                            | any      |
| `hang`           | never answers                                                                      | any      |
| `early`          | answers without waiting for the request's body; by header only                     | any      |
| `discard`        | the request's body is counted and not kept; by header only                         | any      |
| `slow-S`         | S seconds before the head                                                          | any      |
| `gate`           | waits for `release()` before the head                                              | any      |
| `cut`            | the connection closes before any byte of the answer                                | any      |
| `gate-body`      | half a body comes, then waits for `release()`                                      | not SSE  |
| `cut-body`       | a content length is promised, half a body comes, the connection closes             | not SSE  |
| `bad-json`       | 200 with a JSON body that breaks off                                               | any      |
| `gzip`           | the answer is gzip-encoded                                                         | any      |
| `huge-N`         | the answer's text has about N bytes                                                | text     |
| `events-N`       | the answer has N text deltas                                                       | text     |
| `pace-S`         | S seconds between stream events                                                    | SSE      |
| `silent-S`       | S seconds of silence after the second event                                        | SSE      |
| `gate-stream`    | the head and two events, then waits for `release()`                                | SSE      |
| `cut-stream-N`   | the connection closes after N events, without a terminating chunk                  | SSE      |
| `cut-event-N`    | N events, half of the next, then the connection closes                             | SSE      |
| `malformed`      | the third event isn't JSON; the others follow                                      | SSE      |
| `error-event`    | after four events comes an error event in the stream's dialect, then a clean end   | SSE      |
| `split-N`        | the bytes come N at a time, cutting events and UTF-8 sequences anywhere            | any      |
| `drip`           | `split-1`                                                                          | any      |

A fault for SSE does nothing to an answer that isn't a stream, and the other way round.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.simulator.wire.recording import ReceivedRequest

MODEL_PREFIX = "fault:"
RESPONSE_PREFIX = "resp_fault-"
HEADER = "x-simulator-fault"


@dataclass(frozen=True)
class Fault:
    """A fault of the simulated server, or several at once, parsed from text; a field's default means: no such fault."""

    status: int | None = None
    html: bool = False
    redirect: bool = False
    hang: bool = False
    early: bool = False
    discard: bool = False
    slow: float = 0.0
    gate: bool = False
    cut: bool = False
    gate_body: bool = False
    cut_body: bool = False
    bad_json: bool = False
    gzip: bool = False
    huge: int | None = None
    events: int | None = None
    pace: float = 0.0
    silent: float = 0.0
    gate_stream: bool = False
    cut_stream: int | None = None
    cut_event: int | None = None
    malformed: bool = False
    error_event: bool = False
    split: int | None = None
    drip: bool = False

    @property
    def chunk_bytes(self) -> int | None:
        return 1 if self.drip else self.split


NO_FAULT = Fault()
_FLAGS = {field.name.replace("_", "-") for field in fields(Fault) if field.type is bool or field.type == "bool"}
_NUMBERS: dict[str, Callable[[str], float]] = {
    **dict.fromkeys(("status", "huge", "events", "cut-stream", "cut-event", "split"), int),
    **dict.fromkeys(("slow", "pace", "silent"), float),
}
_WITH_NUMBER = re.compile(r"([a-z-]+)-(\d+(?:\.\d+)?)\Z")


def parse_fault(text: str) -> Fault:
    """Parses the text of a fault, such as `events-300+pace-0.1`.

    Raises:
        ValueError: a part is not in this module's table, or its number is out of range; the message names it.
    """
    found: dict[str, Any] = {}
    for part in text.split("+"):
        match = _WITH_NUMBER.match(part)
        if part in _FLAGS:
            found[part.replace("-", "_")] = True
        elif match and match[1] in _NUMBERS:
            found[match[1].replace("-", "_")] = _NUMBERS[match[1]](match[2])
        else:
            raise ValueError(f"the simulator knows no fault {part!r}")
    fault = replace(NO_FAULT, **found)
    if fault.split == 0 or (fault.status is not None and not 200 <= fault.status <= 599):
        raise ValueError(f"out of range: {text!r}")
    return fault


def requested_model(request: ReceivedRequest) -> str | None:
    """Returns the `model` that a request's body, JSON or multipart, names; None if it names none."""
    kind = (request.header("content-type") or "").lower()
    try:
        if kind.startswith("multipart/form-data"):
            return request.form.get("model", [None])[0]
        body = request.json if request.body else None
    except ValueError:
        return None
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None


def own_fault(request: ReceivedRequest, model: str | None, response_id: str | None) -> Fault | None:
    """Returns the fault that a request asks for by a header, its model or a response id; None if it asks for none.

    Raises:
        ValueError: the text of the fault is not valid.
    """
    header = request.header(HEADER)
    if header:
        return parse_fault(header)
    if model and model.startswith(MODEL_PREFIX):
        return parse_fault(model.removeprefix(MODEL_PREFIX))
    if response_id and response_id.startswith(RESPONSE_PREFIX):
        return parse_fault(response_id.removeprefix(RESPONSE_PREFIX))
    return None


def fault_of_head(request: ReceivedRequest) -> Fault:
    """Returns the fault that a request's header asks for, before the body is read; `NO_FAULT` if it asks for none.

    A fault that is not valid counts as none here.
    """
    try:
        return own_fault(request, None, None) or NO_FAULT
    except ValueError:
        return NO_FAULT
