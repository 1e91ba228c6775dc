"""The parsers of Django REST framework for the simple API's bodies: one for JSON objects, and a stand-in for forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from rest_framework.parsers import BaseParser

from proxyapi.bodies.received_object import ReceivedObject, parse_object


class JSONObjectParser(BaseParser):
    """Parser of request bodies that are one JSON object, for Django REST framework."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, object] | None = None
    ) -> ReceivedObject:
        return parse_object(stream.read())


class FormType(BaseParser):
    """Stand-in for a parser: it states that a view accepts multipart forms, and never parses one.

    The view reads its form by itself while the form arrives (`proxyapi.call.uploads`).
    """

    media_type = "multipart/form-data"
