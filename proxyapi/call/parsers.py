"""Parses the bodies of the simple API: JSON objects and multipart forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import IO, NoReturn, cast

from django.conf import settings
from django.core.files.uploadedfile import InMemoryUploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters
from rest_framework.parsers import BaseParser, DataAndFiles

from proxyapi.bodies import json_members, large_bodies
from proxyapi.bodies.form_reader import FormReader
from proxyapi.bodies.json_body import fault_of
from proxyapi.bodies.json_members import JSONFault, Member
from proxyapi.call.call_request import ProxyRequest
from proxyapi.call.uploads import check_file
from proxyapi.exceptions import BadForm, BadJSON, BodyTooLarge
from usage.kept_bodies.excerpts import PartExcerpt


class JSONObjectParser(BaseParser):
    """DRF's parser for `application/json`; the body must be one object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        return parse_object(stream.read())


class FormParser(BaseParser):
    """DRF's parser for `multipart/form-data`, by the grammar of `proxyapi.bodies.form_reader`.

    Files are kept in memory, as the body is.
    """

    media_type = "multipart/form-data"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, object] | None = None
    ) -> DataAndFiles[QueryDict, MultiValueDict[str, object]]:
        assert parser_context is not None  # noqa: S101  (DRF always gives one)
        request = cast(ProxyRequest, parser_context["request"])
        reader = FormReader(request.call_request.raw_headers, keeps_all=True)
        reader.feed(stream.read())
        reader.end()
        fields, files = QueryDict(mutable=True), MultiValueDict[str, object]()
        for part in reader.parts:
            if part.file_name is None:
                fields.appendlist(part.name.decode(), part.content.decode("utf-8", "replace"))
                continue
            check_file(part)
            if upload := uploaded_file(part, part.file_name.decode()):
                files.appendlist(part.name.decode(), upload)
        if sum(part.size for part in reader.parts if part.file_name is None) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise BodyTooLarge("The form's fields, beside the file, are too large.")
        return DataAndFiles(fields, files)


def uploaded_file(part: PartExcerpt, file_name: str) -> InMemoryUploadedFile | None:
    """Returns the file of a form's part, without folders in its name; None if it has no name."""
    base_name = "".join(filter(str.isprintable, re.split(r"[/\\]", file_name)[-1]))
    if base_name in {"", ".", ".."}:
        return None
    try:
        media_type, parameters = parse_header_parameters(part.media_type.decode("latin-1"))
    except ValueError:
        raise BadForm("the Content-Type of a file is malformed") from None
    extra = {name: value.encode() for name, value in parameters.items()}
    content = BytesIO(part.content)
    return InMemoryUploadedFile(content, part.name.decode(), base_name, media_type, part.size, None, extra)


class LargeObject(dict[str, object]):
    """The JSON object of a large body. `written` has the bytes of each value as they came."""

    def __init__(self, members: Iterable[Member], text: str) -> None:
        super().__init__()
        self.written: dict[str, bytes] = {}
        for member in members:
            self[member.name] = member.value
            try:
                self.written[member.name] = text[member.value_start : member.end].encode()
            except UnicodeEncodeError:  # a lone surrogate that is not escaped
                self.written[member.name] = json.dumps(member.value, separators=(",", ":")).encode()


def parse_object(body: bytes) -> dict[str, object]:
    """Returns the JSON object in a body; an empty body is an empty object.

    Raises:
        BadJSON: not JSON (RFC 8259), not an object, nested too deep, or with a number that no
            double or 4,300-digit integer can hold.
        BodyTooLarge: more values than `proxyapi.bodies.large_bodies` allows.
    """
    if not body.strip():
        return {}
    try:
        if len(body) > large_bodies.LARGE_BYTES:
            return _parse_large(body)
        parsed = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise BadJSON(f"The request body is not valid JSON: {fault_of(error)}") from error
    if not isinstance(parsed, dict):
        raise BadJSON("The request body must be a JSON object.")
    return parsed


def write_object(members: Mapping[str, object], parsed: Mapping[str, object]) -> bytes:
    """Returns members as JSON. Values of a large body that are as they were `parsed` are copied as bytes."""
    if not isinstance(parsed, LargeObject):
        return json.dumps(members, separators=(",", ":")).encode()
    written = (
        json.dumps(name).encode() + b":" + parsed.written[name]
        if name in parsed and parsed[name] is value
        else json.dumps({name: value}, separators=(",", ":")).encode()[1:-1]
        for name, value in members.items()
    )
    return b"{" + b",".join(written) + b"}"


def _parse_large(body: bytes) -> LargeObject:
    """Parses a large body, within bounds. Raises `ValueError`, `RecursionError` and `BodyTooLarge`."""
    body = large_bodies.in_utf_8(body)
    large_bodies.check_bounds(body)
    text = large_bodies.decode(body, "surrogatepass")
    numbers = large_bodies.Numbers(_finite)
    decoder = json.JSONDecoder(
        object_pairs_hook=json_members.make_object,
        parse_constant=_refuse_constant,
        parse_int=numbers.parse_int,
        parse_float=numbers.parse_float,
    )
    return LargeObject(json_members.read_object(text, decoder), text)


def _refuse_constant(name: str) -> NoReturn:
    """Refuses NaN and the infinities, which are not JSON."""
    raise JSONFault(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    """Returns the number. Refuses one beyond the range of a double."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JSONFault("a number is out of range")
    return value
