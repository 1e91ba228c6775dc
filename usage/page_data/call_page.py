"""Owns how one call is told: where its time went, what it cost, what was said, and how to make it again."""

from __future__ import annotations

import json
import pprint
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from usage.kept_bodies.redaction import REDACTED, is_secret_name
from usage.models import Request
from usage.page_data import formatting
from usage.page_data.untrusted_text import escape_invisible
from usage.shipping.response_usage import COUNTED_BEFORE, COUNTED_LATER

KEY_VARIABLE = "SECURITY_KEY"  # the variable that stands for the key in what is copied
TIMELINE_WIDTH = 1000  # of the drawn timeline
MAX_OPEN_CHARACTERS = 20_000  # characters; longer ones are folded at first
PARTLY_KEPT = "only a part of the body was kept"
UNITS = {
    "input": "Input",
    "cached_input": "Input, cached",
    "cache_write": "Cache write",
    "audio_input": "Audio input",
    "cached_audio_input": "Audio input, cached",
    "image_input": "Image input",
    "cached_image_input": "Image input, cached",
    "output": "Output",
    "audio_output": "Audio output",
    "image_output": "Image output",
    "audio_seconds": "Audio",
    "web_search": "Web searches",
}
FORM_LINE = re.compile(r"([\w\[\].-]{1,100}): (?:<(.{0,300}), [\w.+/-]+, [\d,]+ bytes>)?", re.ASCII)


@dataclass(frozen=True)
class Phase:
    """A stretch of a call. `x` and `width` are its place on a line of `TIMELINE_WIDTH`."""

    name: str
    text: str
    milliseconds: float
    x: float
    width: float


@dataclass(frozen=True)
class BillItem:
    """A line of the bill."""

    name: str
    count: str
    rate: str
    dollars: str


@dataclass(frozen=True)
class DisplayedBody:
    title: str
    text: str
    size: str
    is_open: bool


@dataclass(frozen=True)
class FormField:
    """A field of a form; with a `file_name`, a file that whoever repeats the call has to supply under it."""

    name: str
    value: str = ""
    file_name: str | None = None


def timeline(call: Request) -> list[Phase]:
    """The phases follow each other and add up to the whole time, as far as the clock readings that were kept tell."""
    total = call.duration_ms
    if call.upstream_ms is None:
        return _lay_out([("ours", "Answered by us", total)], total)
    ours = min(call.overhead_ms or 0.0, total)
    received = max(0.0, total - call.upstream_ms - ours)
    begun = received + ours
    first = call.time_to_first_chunk_ms
    if first is None:
        return _lay_out([("received", "Receiving the request", received), ("ours", "Our own share", ours),
                        ("upstream", "Waiting for upstream", total - begun)], total)  # fmt: skip
    waited = max(0.0, first - begun)
    name = "Streaming the answer" if call.stream else "Passing the answer on"
    return _lay_out([("received", "Receiving the request", received), ("ours", "Our own share", ours),
                    ("upstream", "Waiting for the first byte of upstream's answer", waited),
                    ("stream", name, max(0.0, total - begun - waited))], total)  # fmt: skip


def _lay_out(phases: list[tuple[str, str, float]], total: float) -> list[Phase]:
    placed, at = [], 0.0
    for name, text, milliseconds in phases:
        width = TIMELINE_WIDTH * milliseconds / total if total else TIMELINE_WIDTH / len(phases)
        placed.append(Phase(name, text, milliseconds, round(at, 2), round(max(width, 2.0), 2)))
        at += width
    return placed


def bill(call: Request) -> list[BillItem]:
    """What the cost is made of, from the price that was kept with the call."""
    price = call.price or {}
    rates = price.get("per_million", {})
    return [_item(item, price, rates) for item in price.get("items", []) if Decimal(str(item["count"]))]


def _item(item: Mapping[str, Any], price: Mapping[str, Any], rates: Mapping[str, str]) -> BillItem:
    unit, count = item["unit"], item["count"]
    if unit == "audio_seconds":
        words, rate = f"{count:,} s", f"${price.get('per_minute', '?')} a minute"
    elif unit == "web_search":
        words, rate = f"{count:,}", f"${price.get('per_web_search', '?')} each"
    else:
        words, rate = f"{count:,} tokens", f"${rates.get(unit, '?')} a million"
    return BillItem(UNITS.get(unit, unit), words, rate, f"${Decimal(item['dollars']):.8f}")


def bill_note(call: Request) -> str:
    """What is to be said of the bill."""
    price = call.price or {}
    if price == COUNTED_BEFORE:
        return "The usage of this response was counted when it was made; looking at it again costs nothing."
    if price == COUNTED_LATER:
        return (
            "The usage of this response became known after this call had ended; it is counted where it was seen first."
        )
    if call.cost is None:
        return "No price is known for this model, or upstream did not say what was used. You can add an own price."
    source = "your own price" if price.get("source") == "own" else f"the price list of {price.get('source', 'unknown')}"
    return f"By {source}, for {price.get('model') or 'no model'}, tier {price.get('tier') or 'default'}."


def bodies(call: Request) -> list[DisplayedBody]:
    """What is kept of the request and the answer: JSON indented, anything else as it is; unseen marks made visible."""
    kept = getattr(call, "body", None)
    found = []
    for title, text in (
        ("Request", kept.request_body if kept else ""),
        ("Answer", kept.response_body if kept else ""),
    ):
        if text:
            pretty = escape_invisible(_indented(text))
            found.append(
                DisplayedBody(title, pretty, formatting.size(len(text.encode())), len(pretty) <= MAX_OPEN_CHARACTERS)
            )
    return found


def as_curl(call: Request, base_url: str) -> str:
    """The call as a line for a shell; `$SECURITY_KEY` stands for the key. It is made of the body as it was kept.

    Whatever the caller sent is inert in it: a value is quoted for the shell, and a field of a form is no option of
    curl's, which would read a file of the reader's for `@/etc/passwd` or `</etc/passwd`. A file is one to be supplied;
    a last line says so, by `:`, the command that does nothing: some shells take `#` for an argument, and curl would
    send the key to a host named so.
    """
    note = ""
    lines = [f"curl {shlex.quote(base_url + _path(call))}", f'  -H "Authorization: Bearer ${KEY_VARIABLE}"']
    if call.method != "GET":
        lines[0] = f"curl -X {shlex.quote(call.method)} {shlex.quote(base_url + _path(call))}"
        fields = _form_fields(call)
        body = _json_body(call)
        if fields is not None:
            lines += [_curl_field(field) for field in fields]
            if files := _file_list(fields):
                note = f"supply {files} yourself"
        elif body is not None:
            text = json.dumps(body)  # all but ASCII escaped: nothing in it acts on a terminal
            lines += ["  -H 'Content-Type: application/json'", f"  -d {shlex.quote(text)}"]
        elif _kept_request_body(call):
            lines += ["  -H 'Content-Type: application/json'", "  -d @body.json"]
            note = PARTLY_KEPT
    return " \\\n".join(lines) + (f"\n: {shlex.quote(note)}" if note else "")


def _curl_field(field: FormField) -> str:
    if field.file_name is None:
        return f"  --form-string {shlex.quote(f'{field.name}={field.value}')}"
    return f"  -F {shlex.quote(f'{field.name}=@{field.file_name}')}"


def as_python(call: Request, base_url: str) -> str:
    """The call as a program; the key comes from the environment. What the caller sent is in literals only."""
    fields = _form_fields(call)
    body = _json_body(call)
    arguments: list[tuple[str, str]] = []  # each with its comment
    if fields is not None:
        files = [f"{field.name!a}: open({field.file_name!a}, 'rb')" for field in fields if field.file_name is not None]
        plain = {field.name: field.value for field in fields if field.file_name is None}
        comment = f"supply {_file_list(fields)} yourself" if files else ""
        arguments += [(f"files={{{', '.join(files)}}}", comment), (f"data={plain!a}", "")]
    elif body is not None:
        arguments += [(f"json={_as_literal(body)}", "")]
    elif _kept_request_body(call):
        arguments += [('content=open("body.json", "rb")', PARTLY_KEPT)]
    arguments[:0] = [(f'headers={{"Authorization": f"Bearer {{os.environ[{KEY_VARIABLE!r}]}}"}}', "")]
    arguments += [("timeout=900", "")]
    listed = "".join(f"    {text},{f'  # {comment}' if comment else ''}\n" for text, comment in arguments)
    method, url = ascii(call.method), ascii(base_url + _path(call))
    call_it = f"answer = httpx.request(\n    {method},\n    {url},\n{listed})"
    return f"import os\n\nimport httpx\n\n{call_it}\nprint(answer.text)"


def _as_literal(body: Any) -> str:
    whole = ascii(body)
    if len(whole) > MAX_OPEN_CHARACTERS:  # breaking its lines would take seconds
        return whole
    text = pprint.pformat(body, width=100, sort_dicts=False)
    return text.replace("\n", "\n    ") if text.isascii() else whole


def _path(call: Request) -> str:
    return quote(call.route.replace("{id}", re.sub(r"[^\w-]", "", call.response_id) or "RESPONSE_ID"))


def _kept_request_body(call: Request) -> str:
    kept = getattr(call, "body", None)
    return kept.request_body if kept else ""


def _json_body(call: Request) -> Any:
    """The request's body as JSON without what was secret in it; None if it is none, or not whole."""
    try:
        body = json.loads(_kept_request_body(call))
    except (ValueError, RecursionError):
        return None
    return _without_secrets(body)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_secrets(item)
            for name, item in value.items()
            if not (is_secret_name(name) or item == REDACTED)
        }
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _form_fields(call: Request) -> list[FormField] | None:
    """The fields of a form without its secrets; None if it was none."""
    text = _kept_request_body(call)
    if text.startswith(("{", "[")) or not text:
        return None
    fields = []
    for line in text.split("\n"):
        match = FORM_LINE.match(line)
        if match is None:
            return None
        name, file_name = match[1], match[2]
        if is_secret_name(name):
            continue
        if file_name is None:
            fields.append(FormField(name, value=escape_invisible(line[match.end() :], 2000)))
        else:
            fields.append(FormField(name, file_name=_placeholder(file_name)))
    return fields


def _placeholder(file_name: str) -> str:
    """A path in the reader's directory for a file that a caller named.

    Only the last part of the name stays of it, of plain characters, and not as a hidden file: `./passwd` for
    `/etc/passwd`, `./env` for `.env`.
    """
    last = re.split(r"[/\\]", file_name)[-1]
    plain = re.sub(r"[^A-Za-z0-9 ._'+-]", "_", last)[:100].lstrip(". -").rstrip()
    return f"./{plain or 'file'}"


def _file_list(fields: Sequence[FormField]) -> str:
    """The files to be supplied, as a comment says them."""
    return ", ".join(field.file_name for field in fields if field.file_name is not None)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
