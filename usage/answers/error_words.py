"""Owns the reading of errors in the shapes that servers give them: what kind of error it is, and its words.

OpenAI's is `{"error": {"type", "code", "message"}}`. Others: a text in the place of that object (Ollama), the members
without it (vLLM, Cohere), `{"detail": …}` (FastAPI), a list around it (Gemini), `{"errors": [{"message"}]}`
(Cloudflare), `error_description` (OAuth, RFC 6749), `title` and `detail` (RFC 9457), a page of HTML (proxies), plain
text, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from http import HTTPStatus
from typing import Any

import orjson

from usage.answers import event_stream

ErrorFacts = dict[str, str]
# Members that may have the words, the usual first. `error` and `errors` may have an object with such members in them.
WORDS = (
    "message", "Message", "detail", "error_description", "error_message", "msg", "title", "reason", "description",
    "error_msg", "err_msg", "errorMessage", "status_msg", "error", "errors", "err",
)  # fmt: skip
CODES = ("code", "error_code", "errorCode", "err_code", "status_code", "__type", "status")
TYPES = ("type", "error_type")
MOST_READ = 64 * 1024  # bytes of a text
MOST_DEEP = 4  # objects in one another
LONGEST_TEXT = 2000  # characters of a page that are kept
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


def states_error(error: object) -> bool:
    """Whether the value of a member `error` is one: a text, or an object or list in which something is said.

    Many servers write members that have no value, also `{"code": null, "message": ""}`.
    """
    if isinstance(error, dict):
        return any(map(states_error, error.values()))
    if isinstance(error, list):
        return any(map(states_error, error))
    return bool(error)


def stated_error(body: Mapping[str, Any]) -> ErrorFacts | None:
    """The error that a JSON object states by its member `error`, or by its kind; None if it states none."""
    return _of_json(body, 0) if states_error(body.get("error")) or body.get("object") == "error" else None


def event_error(event: Mapping[str, Any], data: bytes) -> ErrorFacts:
    """The error that an event of a stream is; `event` is the JSON object that `data` is, if it is one."""
    return _of_json(event, 0) if event else text_error(data)


def error_facts(error: Mapping[str, Any]) -> ErrorFacts:
    """Type, code and message of an object that is an error; what it does not say is empty."""
    kind = _first(error, TYPES)
    return {"type": kind if kind != "error" else "", "code": _first(error, CODES), "message": _words(error)}


def text_error(data: bytes) -> ErrorFacts:
    """The error that is a text, plain or a JSON string."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    words = value if isinstance(value, str) else data.decode("utf-8", "replace").strip()
    return {"type": "", "code": "", "message": words}


def body_error(body: bytes, status: int) -> ErrorFacts:
    """The error that a whole answer is, in whatever shape. None of its facts is missing: the status has words, too."""
    facts = _read(body)
    if not facts["type"] and not facts["code"]:
        facts["code"] = f"http_{status}"
    if not facts["message"]:
        facts["message"] = status_words(status)
    return facts


def status_words(status: int) -> str:
    """What a status means: `Bad Gateway`."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return OTHER_STATUSES.get(status, f"Status {status}")


def _read(body: bytes) -> ErrorFacts:
    body = body[: 4 * MOST_READ].strip().removeprefix(b"\xef\xbb\xbf")
    if event_stream.begins_stream(body):
        body = next((data for _, data in event_stream.read(body)), body)
    if body[:1] in {b"{", b"[", b'"'}:
        try:
            return _of_json(orjson.loads(body), 0)
        except orjson.JSONDecodeError:
            pass
    text = body[:MOST_READ].decode("utf-8", "replace")
    if body[:1] == b"<":
        text = _of_page(text)
    return {"type": "", "code": "", "message": text.strip()[:LONGEST_TEXT]}


def _of_json(value: Any, depth: int) -> ErrorFacts:
    if isinstance(value, list) and value and depth < MOST_DEEP:
        return _of_json(value[0], depth + 1)
    if not isinstance(value, dict):
        return {"type": "", "code": "", "message": _text(value) if value else ""}
    for name in ("error", "errors", "detail", "message", "base_resp"):
        inner = value.get(name)
        if depth < MOST_DEEP and (isinstance(inner, dict) or (name == "errors" and inner)) and inner:
            facts = _of_json(inner, depth + 1)
            outer = error_facts({one: told for one, told in value.items() if one != name})
            return {fact: facts[fact] or outer[fact] for fact in facts}
    facts = error_facts(value)
    if isinstance(value.get("error"), str) and facts["message"] != value["error"] and not facts["code"]:
        facts["code"] = value["error"]  # OAuth's: a code, beside its description
    return facts


def _first(error: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((_text(error[name]) for name in names if isinstance(error.get(name), str | int) and error[name]), "")


def _words(error: Mapping[str, Any]) -> str:
    for name in WORDS:
        value = error.get(name)
        if isinstance(value, list) and value and all(isinstance(one, dict) and "msg" in one for one in value):
            return "; ".join(map(_finding, value))  # FastAPI's
        if value and value is not True:
            return _text(value)
    return ""


def _finding(finding: Mapping[str, Any]) -> str:
    """One of FastAPI's: where, and what."""
    place = finding.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {finding['msg']}" if where else str(finding["msg"])


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return str(value or "")


class _Page(HTMLParser):
    """The title and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _: object) -> None:
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0

    def handle_data(self, data: str) -> None:
        words = _SPACE.sub(" ", data).strip()
        if words and not self._hidden and words not in self.texts[:1]:
            self.texts.append(words)


def _of_page(text: str) -> str:
    page = _Page()
    page.feed(text[: MOST_READ // 4])
    page.close()
    return " · ".join(page.texts)
