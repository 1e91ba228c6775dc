"""Writes a shell command and a Python program that repeat a logged call, for people who want to make it again.

The text that the caller sent is made harmless: whoever runs the copied command runs nothing else, and sends none of
their own files. The command takes the key from the environment, and does not contain it.
"""

from __future__ import annotations

import json
import pprint
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from usage.kept_bodies.redaction import REDACTED, is_secret_name
from usage.models import Request
from usage.page_data.conversations.cut_json import split_cut
from usage.untrusted_text import escape_invisible

KEY_VARIABLE = "CHATPROXY_API_KEY"  # the environment variable that holds the key; as in docs/ and for Codex
MAX_BROKEN_CHARACTERS = 20_000  # a longer body is written on one line: breaking it into lines would take seconds
MAX_DEPTH = 100  # of a body's JSON; reading and writing it recurses
UNSUPPORTED_TYPE = "unsupported_media_type"  # the error code of a call that was refused for its Content-Type
PARTLY_KEPT = "the whole body in body.json, since only a part of it was kept"
NO_JSON = "the body in body.json: it is no JSON that this command could repeat"
# Members of a body that name what only the key that made it may use, unless it is the built-in key.
_OWNED = re.compile(r'"(previous_response_id|conversation|file_id|input_file_id|vector_store_ids|container)": *["\[{]')
_ELIDED = re.compile(r"<base64 [^<>]{0,120} bytes>|<\d+ numbers>")  # what `usage.kept_bodies.elision` puts in its place
# A line of a form's body as it is logged: `name: value`, or `name: <file name, content type, size>`.
FORM_LINE = re.compile(r"([\w\[\].-]{1,100}): (?:<(.{0,300}), [\w.+/-]+, [\d,]+ bytes>)?", re.ASCII)


@dataclass(frozen=True)
class FormField:
    """One field of a submitted form, as the log has it.

    If `file_name` is set, the field is an uploaded file. Its content is not stored, so a person who wants to repeat the
    call has to supply the file.
    """

    name: str
    value: str = ""
    file_name: str | None = None


def as_curl(call: Request, base_url: str) -> str:
    """Writes a curl command that sends a logged call again; it reads the key from `$CHATPROXY_API_KEY`.

    All values are quoted for the shell. If a person must supply something first, such as an uploaded file, the first
    line says so.
    """
    lines = [f"curl {shlex.quote(base_url + _path(call))}", f'  -H "Authorization: Bearer ${KEY_VARIABLE}"']
    if call.method != "GET":
        lines[0] = f"curl -X {shlex.quote(call.method)} {shlex.quote(base_url + _path(call))}"
        # A field is sent by `--form-string`: `-F` would read a file if the value is `@/etc/passwd` or `</etc/passwd`.
        fields = _form_fields(call)
        body = _json_body(call)
        if fields is not None:
            lines += [_curl_field(field) for field in fields]
        elif body is not None:
            text = json.dumps(body)  # in ASCII: characters that a terminal would act on are escaped
            lines += ["  -H 'Content-Type: application/json'", f"  -d {shlex.quote(text)}"]
        elif kept_request_body(call):
            lines += ["  -H 'Content-Type: application/json'", "  -d @body.json"]
    # The note is an argument of `:`, the shell's command that does nothing. Some shells take a comment's `#` for an
    # argument, and curl would send the key to a host of that name.
    note = _missing(call)
    return (f": {shlex.quote(note)}\n" if note else "") + " \\\n".join(lines)


def _missing(call: Request) -> str:
    """Returns a line ("Supply first: …") on what a person must supply to repeat a call; "" if nothing is needed.

    Examples are uploaded files, parts of the body that were not stored, and an unknown response id. The line has no
    names of files as the caller wrote them, so it is safe in a shell command and in a comment of Python.
    """
    text = kept_request_body(call) if call.method != "GET" else ""
    fields, body = _form_fields(call), _json_body(call)
    needed = []
    if call.error_code == UNSUPPORTED_TYPE:
        needed.append("the Content-Type that was refused, in place of application/json")
    if fields is not None and (files := _file_list(fields)):
        needed.append(files)
    elif fields is None and body is None and text:
        needed.append(PARTLY_KEPT if split_cut(text)[1] else NO_JSON)
    if body is not None and _ELIDED.search(text):
        needed.append("the binary data that was not kept, in place of <...>")
    if "{id}" in call.route and not call.response_id:
        needed.append("the id of the response in place of RESPONSE_ID")
    if "{id}" in call.route or (body is not None and _OWNED.search(text)):
        needed.append("the same key as before, which alone may use what the call names")
    return f"Supply first: {'; '.join(needed)}" if needed else ""


def _curl_field(field: FormField) -> str:
    if field.file_name is None:
        return f"  --form-string {shlex.quote(f'{field.name}={field.value}')}"
    return f"  -F {shlex.quote(f'{field.name}=@{field.file_name}')}"


def as_python(call: Request, base_url: str) -> str:
    """Writes a Python program that sends a logged call again, with the request body that was logged.

    The program reads the key from the environment variable `KEY_VARIABLE`. If a person must supply something first,
    such as an uploaded file, a comment in the first line says so.
    """
    # What the caller sent stands only in literals, so that none of it is run.
    fields = _form_fields(call)
    body = _json_body(call)
    arguments: list[str] = []
    if fields is not None:
        files = [f"{field.name!a}: open({field.file_name!a}, 'rb')" for field in fields if field.file_name is not None]
        plain = {field.name: field.value for field in fields if field.file_name is None}
        arguments += [f"files={{{', '.join(files)}}}", f"data={plain!a}"]
    elif body is not None:
        arguments += [f"json={_as_literal(body)}"]
    elif kept_request_body(call):
        arguments += ['content=open("body.json", "rb")']
    arguments = [f'headers={{"Authorization": f"Bearer {{os.environ[{KEY_VARIABLE!r}]}}"}}', *arguments, "timeout=900"]
    listed = "".join(f"    {text},\n" for text in arguments)
    method, url = ascii(call.method), ascii(base_url + _path(call))
    call_it = f"answer = httpx.request(\n    {method},\n    {url},\n{listed})"
    note = _missing(call)
    first = f"# {note}\n" if note else ""
    return f"{first}import os\n\nimport httpx\n\n{call_it}\nprint(answer.text)"


def _as_literal(body: object) -> str:
    """Writes a JSON value as a Python literal in ASCII, on several lines.

    A value that is very long, or needs escapes to be ASCII, is written on one line.
    """
    whole = ascii(body)
    if len(whole) > MAX_BROKEN_CHARACTERS:
        return whole
    text = pprint.pformat(body, width=100, sort_dicts=False)
    return text.replace("\n", "\n    ") if text.isascii() else whole


def _path(call: Request) -> str:
    """Returns the path of a call's URL: the route with the id of the response in place of `{id}`.

    If the id is unknown, `RESPONSE_ID` stands in its place.
    """
    return quote(call.route.replace("{id}", re.sub(r"[^\w-]", "", call.response_id) or "RESPONSE_ID"))


def kept_request_body(call: Request) -> str:
    """Returns the logged body of a call's request; an empty text if no body was logged."""
    kept = getattr(call, "body", None)
    return kept.request_body if kept else ""


def _json_body(call: Request) -> object:
    """Parses the logged body of a call's request as JSON, and removes secrets from it.

    Returns None for a body that is not JSON, was not logged completely, or is nested more than `MAX_DEPTH` deep.
    """
    try:
        return _without_secrets(json.loads(kept_request_body(call)))
    except (ValueError, RecursionError):
        return None


def _without_secrets(value: object, depth: int = 0) -> object:
    """Returns a copy of a JSON value without the members that were redacted or have the name of a secret.

    Raises:
        ValueError: the value is nested more than `MAX_DEPTH` deep.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {
            name: _without_secrets(item, depth + 1)
            for name, item in value.items()
            if not (is_secret_name(name) or item == REDACTED)
        }
    if isinstance(value, list):
        return [_without_secrets(item, depth + 1) for item in value]
    return value


def _form_fields(call: Request) -> list[FormField] | None:
    """Parses the logged body of a call as the fields of a submitted form; None if the body is no form.

    Fields with the name of a secret are left out. Values are cut to 2000 characters, and invisible characters are
    replaced by codes.
    """
    text = kept_request_body(call)
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
    """Returns a harmless file name for a curl command that repeats an upload: `/etc/passwd` becomes `./passwd`.

    A hidden file gets a plain name: `.env` becomes `./env`.
    """
    last = re.split(r"[/\\]", file_name)[-1]
    plain = re.sub(r"[^A-Za-z0-9 ._'+-]", "_", last)[:100].lstrip(". -").rstrip()
    return f"./{plain or 'file'}"


def _file_list(fields: Sequence[FormField]) -> str:
    """Returns the names of the uploaded files among a form's fields, joined by commas."""
    return ", ".join(field.file_name for field in fields if field.file_name is not None)
