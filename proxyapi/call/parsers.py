"""Parses the bodies of the simple API, which are JSON objects, and names the media type of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from rest_framework.parsers import BaseParser

from proxyapi.bodies.received_object import ReceivedObject, parse_object


class JSONObjectParser(BaseParser):
    """Parser for Django REST framework of request bodies that are one JSON object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, object] | None = None
    ) -> ReceivedObject:
        return parse_object(stream.read())


class FormType(BaseParser):
    """Placeholder for a parser, which only names the media type of multipart forms; for views that take a form.

    A view reads its form by itself while the form arrives (`proxyapi.call.uploads`).
    """

    media_type = "multipart/form-data"
