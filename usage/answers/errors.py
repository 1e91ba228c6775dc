"""Reads upstream's errors (type, code, message and parameter) in the many shapes in which servers report them.

OpenAI's shape: `{"error": {"type", "code", "message", "param"}}`. Other shapes are: a text instead of the inner object
(Ollama), the members of the inner object at the top (vLLM, Cohere), `{"detail": …}` (FastAPI), a list around the object
(Gemini), `{"errors": [{"message"}]}` (Cloudflare), `error_description` (OAuth, RFC 6749), `title` and `detail` (RFC
9457), an HTML page (proxies), plain text, an empty body.

Over 300 lines, since each fact about an error is looked for in each of these shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from http import HTTPStatus
from typing import NotRequired, TypedDict

import orjson

from usage.answers import event_stream

# Members that may hold the message, the most usual first. `error` and `errors` may be objects with such members.
MESSAGE_FIELDS = (
    "message", "Message", "detail", "error_description", "error_message", "msg", "title", "reason", "description",
    "error_msg", "err_msg", "errorMessage", "status_msg", "error", "errors", "err",
)  # fmt: skip
CODE_FIELDS = ("code", "error_code", "errorCode", "err_code", "status_code", "__type", "status")
TYPE_FIELDS = ("type", "error_type")
PARAMETER = re.compile(r"[\w.\[\]-]{1,100}")  # names such as `tools[0].type`, and no text of a prompt
MAX_TEXT_BYTES = 64 * 1024
MAX_DEPTH = 4  # how many levels of nested objects and lists are searched for the error
MAX_MESSAGE_CHARACTERS = 2000  # of a message that is made from plain text or an HTML page
# Statuses that servers send and `http.HTTPStatus` does not know.
OTHER_STATUSES = {
    498: "Invalid Token",
    499: "Client Closed Request",
    520: "Web Server Returned an Unknown Error",
    521: "Web Server Is Down",
    522: "Connection Timed Out",
    523: "Origin Is Unreachable",
    524: "A Timeout Occurred",
    525: "SSL Handshake Failed",
    526: "Invalid SSL Certificate",
    529: "Site Is Overloaded",
    530: "Site Is Frozen",
}
_SPACE = re.compile(r"\s+")
_ERROR_TEXT = re.compile(rb"[\W_]*+error\b", re.IGNORECASE)
# Members of answers that errors do not have beside their message.
_ANSWER_MEMBERS = frozenset({"id", "model", "output"})
_GOOD_CODES = frozenset({
    "0", "200", "ok", "success", "succeeded", "queued", "pending", "waiting", "starting", "started", "processing",
    "running", "in_progress", "generating", "completed", "finished", "done",
})  # fmt: skip


class ErrorFacts(TypedDict):
    """The type, code and message of an error, as an answer from upstream reports them.

    Each is an empty text if the answer does not state it. `param` is the parameter of the request that was refused; it
    is absent if the answer names none.
    """

    type: str
    code: str
    message: str
    param: NotRequired[str]


NO_ERROR: ErrorFacts = {"type": "", "code": "", "message": ""}


def parameter_name(value: object) -> str:
    """Returns `value` if it can be the name of a request's parameter, such as `tools[0].type`; else an empty text."""
    return value if isinstance(value, str) and PARAMETER.fullmatch(value) else ""


def is_error_value(value: object) -> bool:
    """Returns whether `value`, the member `error` of an answer, reports an error.

    It does if anything in it, at any depth, is `true`, a non-empty string or a number other than 0. Many servers send
    `"error": null` or `{"code": null, "message": ""}` in good answers, too.
    """
    waiting = [value]
    while waiting:  # no recursion: upstream may nest its answer as deep as it likes
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
        elif one:
            return True
    return False


def error_in_object(body: Mapping[str, object]) -> ErrorFacts | None:
    """Returns the facts (`ErrorFacts`) of the error in a JSON object from upstream; None if it reports no error.

    It reports an error if its member `object` is "error", or if its member `error` reports one (`is_error_value`).
    """
    return _from_json(body, 0) if is_error_value(body.get("error")) or body.get("object") == "error" else None


def error_in_event(event: Mapping[str, object], data: bytes) -> ErrorFacts:
    """Returns the facts (`ErrorFacts`: type, code, message, parameter) of the error in one event of a streamed answer.

    `event` is the JSON object parsed from the event's `data`. If `event` is empty, `data` is the error's message, as
    plain text or a JSON string.
    """
    return _from_json(event, 0) if event else _from_text(data)


def error_in_body(body: bytes, status: int) -> ErrorFacts:
    """Returns the facts (`ErrorFacts`) of the error in the body of an answer with an error status, in whatever format.

    A missing message becomes the phrase for `status`, such as "Bad Gateway". If the body has neither a type nor a code,
    the code is made from `status`, such as `http_502`.
    """
    facts = _from_body(body)
    if not facts["type"] and not facts["code"]:
        facts["code"] = f"http_{status}"
    if not facts["message"]:
        facts["message"] = status_phrase(status)
    return facts


def status_phrase(status: int) -> str:
    """Returns the reason phrase of an HTTP status: `Bad Gateway` for 502, `Status 999` for an unknown status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return OTHER_STATUSES.get(status, f"Status {status}")


def _from_body(body: bytes) -> ErrorFacts:
    """Reads the facts of an error (type, code, message, parameter) from the start of an answer's body.

    The body may be JSON, a stream of events (of which the first is read), an HTML page or plain text. A missing type,
    code or message is an empty text; a missing parameter is left out.
    """
    body = body[: 4 * MAX_TEXT_BYTES].strip().removeprefix(b"\xef\xbb\xbf")
    if event_stream.begins_stream(body):
        body = next((data for _, data in event_stream.read(body)), body)
    if body[:1] in {b"{", b"[", b'"'}:
        try:
            return _from_json(orjson.loads(body), 0)
        except orjson.JSONDecodeError:
            pass
    text = body[:MAX_TEXT_BYTES].decode("utf-8", "replace")
    if body[:1] == b"<":
        text = _page_text(text)
    return {"type": "", "code": "", "message": text.strip()[:MAX_MESSAGE_CHARACTERS]}


def _from_text(data: bytes) -> ErrorFacts:
    """Returns the facts of an error whose message is `data`, plain text or a JSON string; without type and code."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    message = value if isinstance(value, str) else data.decode("utf-8", "replace").strip()
    return {"type": "", "code": "", "message": message}


def _from_json(value: object, depth: int) -> ErrorFacts:
    """Returns the facts of the error in a JSON value: type, code, message and, if it is stated, the parameter.

    A fact is taken from the innermost object that describes the error or, if it is missing there, from the objects
    around it. A type, code or message that is missing everywhere is an empty text. `depth` says how deep `value` is
    nested; at `MAX_DEPTH`, objects inside it are not searched.
    """
    if isinstance(value, list) and value and depth < MAX_DEPTH:
        return _from_json(value[0], depth + 1)
    if not isinstance(value, dict):
        return {"type": "", "code": "", "message": _as_text(value) if value else ""}
    for name in ("error", "errors", "detail", "message", "base_resp"):
        inner = value.get(name)
        if depth < MAX_DEPTH and (isinstance(inner, dict) or (name == "errors" and inner)) and inner:
            facts = _from_json(inner, depth + 1)
            outer = _from_members({key: member for key, member in value.items() if key != name})
            merged: ErrorFacts = {
                "type": facts["type"] or outer["type"],
                "code": facts["code"] or outer["code"],
                "message": facts["message"] or outer["message"],
            }
            if param := facts.get("param") or outer.get("param"):
                merged["param"] = param
            return merged
    facts = _from_members(value)
    if isinstance(value.get("error"), str) and facts["message"] != value["error"] and not facts["code"]:
        facts["code"] = value["error"]  # OAuth: `error` is a code, and its description stands beside it
    return facts


def _from_members(error: Mapping[str, object]) -> ErrorFacts:
    """Reads the facts of an error from the members of one object: type, code, message and, if stated, parameter.

    Objects inside it are not searched; a message that is itself an object or a list becomes JSON text. The type "error"
    says nothing, and becomes an empty text.
    """
    kind = _first_text(error, TYPE_FIELDS)
    facts: ErrorFacts = {
        "type": kind if kind != "error" else "",
        "code": _first_text(error, CODE_FIELDS),
        "message": _message(error),
    }
    if param := parameter_name(error.get("param")):
        facts["param"] = param
    return facts


def _first_text(error: Mapping[str, object], names: tuple[str, ...]) -> str:
    """Returns the first value among the members `names` of an error object, as text; an empty text if there is none.

    A value is a non-empty text, or a whole number other than 0. All other values are skipped.
    """
    values = (error.get(name) for name in names)
    return next((_as_text(one) for one in values if one and isinstance(one, str | int) and one is not True), "")


def _message(error: Mapping[str, object]) -> str:
    """Returns the message in an object that describes an error, from the first of `MESSAGE_FIELDS` that has a value.

    FastAPI's validation errors, which come as a list, are joined to one text. Any other list or object becomes JSON
    text. Without a message, the result is empty.
    """
    for name in MESSAGE_FIELDS:
        value = error.get(name)
        if isinstance(value, list) and value and all(isinstance(item, dict) and "msg" in item for item in value):
            return "; ".join(map(_validation_error, value))
        if value and value is not True:
            return _as_text(value)
    return ""


def _validation_error(item: Mapping[str, object]) -> str:
    """Converts one of FastAPI's validation errors to text: the path of the wrong field, then the error's message."""
    path = item.get("loc")
    field = ".".join(map(str, path)) if isinstance(path, list) else ""
    return f"{field}: {item['msg']}" if field else str(item["msg"])


def _as_text(value: object) -> str:
    """Converts a JSON value to text: strings stay, objects and lists become JSON; null, `false` and 0 become empty."""
    if isinstance(value, dict | list):
        try:
            return orjson.dumps(value, default=str).decode()
        except TypeError:  # a whole number beyond 64 bits, or nested too deep
            try:
                return json.dumps(value)
            except RecursionError:
                return ""
    return str(value or "")


class _PageText(HTMLParser):
    """Parser that collects the title and the visible texts of an HTML page in `texts`."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden_depth = 0  # how many `script` and `style` elements are open

    def handle_starttag(self, tag: str, _: object) -> None:
        self._hidden_depth += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden_depth -= tag in {"script", "style"} and self._hidden_depth > 0

    def handle_data(self, data: str) -> None:
        text = _SPACE.sub(" ", data).strip()
        if text and not self._hidden_depth and text not in self.texts[:1]:
            self.texts.append(text)


def _page_text(page: str) -> str:
    """Returns the title and the visible texts at the start of an HTML page, joined by ` · `."""
    parser = _PageText()
    parser.feed(page[: MAX_TEXT_BYTES // 4])
    if not parser.rawdata.startswith(
        "<"
    ):  # else a tag without an end: `close` searches at each `<` in it up to the end
        parser.close()
    return " · ".join(parser.texts)


def is_error_event(event: Mapping[str, object]) -> bool:
    """Returns whether an event of a stream reports an error. Not for the chunks of a chat, which have other rules.

    * An event with a type or an `object` reports an error if the type ends with `error` or `exception`, or if the
      `object` is "error".
    * Any other event, such as `{"detail": …}`, reports an error if it has an error's message, and no sign of a good
      answer, such as a `usage`.
    """
    kind, named = event.get("type"), event.get("object")
    if named or isinstance(kind, str):
        return named == "error" or (isinstance(kind, str) and names_error(kind.encode("utf-8", "replace")))
    if event.get("usage") is not None or not _ANSWER_MEMBERS.isdisjoint(event) or _states_success(event):
        return False
    return bool(error_in_event(event, b"")["message"])


def _states_success(event: Mapping[str, object]) -> bool:
    """Returns whether an event's code or status states success or progress, as in `{"code": 0, "message": "ok"}`."""
    inner = event.get("base_resp")
    objects = (event, inner) if isinstance(inner, dict) else (event,)
    return any(str(one[name]).lower() in _GOOD_CODES for one in objects for name in CODE_FIELDS if name in one)


def names_error(kind: bytes) -> bool:
    """Returns whether the type or name of an event ends with `error` or `exception`."""
    return kind.lower().endswith((b"error", b"exception"))


def error_without_object(data: bytes) -> dict[str, object]:
    """Returns the error in an event's `data` that is no JSON object, as an error object; else an empty dict.

    * Of a list that begins with an object, as Gemini sends it, this object is returned.
    * A text that begins with "error" is returned as `{"object": "error", "message": …}`.
    """
    if data.lstrip()[:1] == b"[":
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return found[0]
    return {"object": "error", "message": error_in_event({}, data)["message"]} if _ERROR_TEXT.match(data) else {}
