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
    """Django REST framework's parser for request bodies in JSON, each of which must be one object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        return parse_object(stream.read())


class FormParser(BaseParser):
    """Django REST framework's parser for multipart forms. Files are kept in memory, as the request's body is.

    A form must follow the strict grammar of `proxyapi.bodies.form_reader`.
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
    """Returns Django's object for an uploaded file from a part of a form; None if the file has no usable name.

    The object's file name is `file_name` without folders and unprintable characters. Raises `BadForm` if the part's
    Content-Type is malformed.
    """
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
    """The JSON object in a large body, as a dictionary that also has each value as bytes, exactly as they came.

    `written` maps the names of the members to these bytes, so that an unchanged value need not be written as JSON
    again.
    """

    def __init__(self, members: Iterable[Member], text: str) -> None:
        super().__init__()
        self.written: dict[str, bytes] = {}
        for member in members:
            self[member.name] = member.value
            try:
                self.written[member.name] = text[member.value_start : member.end].encode()
            except UnicodeEncodeError:  # the text has half of a surrogate pair, not escaped
                self.written[member.name] = _ENCODER.encode(member.value).encode()


def parse_object(body: bytes) -> dict[str, object]:
    """Parses a request's body as JSON and returns the object in it; an empty body counts as an empty object.

    Raises:
        BadJSON: the body is not JSON (RFC 8259), is not an object, is nested too deep, has a number beyond the range of
            a double, or has an integer of more than 4,300 digits.
        BodyTooLarge: the body has more values than `proxyapi.bodies.large_bodies` allows.
    """
    if not body.strip():
        return {}
    try:
        if len(body) > large_bodies.LARGE_BYTES:
            return _parse_large(body)
        parsed = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise BadJSON(f"The request body is not valid JSON: {fault_of(error)}") from error
    if not isinstance(parsed, dict):
        raise BadJSON("The request body must be a JSON object.")
    return parsed


def write_object(members: Mapping[str, object], parsed: Mapping[str, object]) -> bytes:
    """Writes an object with the given members as JSON, and returns the bytes.

    `parsed` is the object in the request's body. If that body was large, each value that was taken from `parsed`
    unchanged is copied as the bytes that came, and not written anew.
    """
    if not isinstance(parsed, LargeObject):
        return _ENCODER.encode(members).encode()
    written = (
        json.dumps(name).encode() + b":" + parsed.written[name]
        if name in parsed and parsed[name] is value
        else _ENCODER.encode({name: value}).encode()[1:-1]
        for name, value in members.items()
    )
    return b"{" + b",".join(written) + b"}"


def _parse_large(body: bytes) -> LargeObject:
    """Parses a large request body as a JSON object, after checking that the body does not have too many values.

    Raises `ValueError`, `RecursionError` and `BodyTooLarge`.
    """
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
    """Raises `JSONFault` for NaN and the infinities, which are not JSON although Python's parser accepts them."""
    raise JSONFault(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    """Converts a number in JSON to a float. Raises `JSONFault` if the number is beyond the range of a double."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JSONFault("a number is out of range")
    return value


# `json.loads` and `json.dumps` would make a new one for each call.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
