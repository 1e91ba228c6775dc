"""Generates the document of `/openapi.json` from the descriptions in `proxyapi.openapi`, by drf-spectacular.

This module is loaded with the first request for the document (`proxyapi.pages.docs`). The generator and its imports
take a fifth of a second and 15 MB, and most workers get no such request.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import cache

from django.urls import get_resolver
from drf_spectacular.drainage import set_override
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema

from proxyapi.openapi import ANY, BEARER, ERROR, JSON, METHODS, OperationDescription

URLS = "proxyapi.urls"


_generating = threading.Lock()  # two threads that describe a method would double its parameters


def describe_api() -> bytes:
    """Returns the OpenAPI 3.1 document of the gateway's API as JSON; generates it only once."""
    with _generating:
        return _generate()


@cache
def _generate() -> bytes:
    """Generates the OpenAPI document, as JSON, from the descriptions of all views in the URL configuration `URLS`."""
    get_resolver(URLS).url_patterns  # noqa: B018  (the attribute loads all views, which add their methods to `METHODS`)
    for method, description in METHODS:
        _decorator_of(description)(method)
    schema = SchemaGenerator(urlconf=URLS).get_schema(public=True)  # type: ignore[no-untyped-call]  # it has no types
    return json.dumps(schema).encode()


def _decorator_of(description: OperationDescription | None) -> Callable[[Callable[..., object]], object]:
    """Converts the description of an operation to drf-spectacular's decorator for the view's method.

    If `description` is None, the decorator hides the method from the OpenAPI document.
    """
    if description is None:
        return extend_schema(exclude=True)
    responses = {(200, media_type): schema for media_type, schema in (description.answers or {JSON: ANY}).items()}
    example, summary = description.example, description.summary
    return extend_schema(
        # Made of path and method, as by default, the name of a list would be that of one of its items as well.
        operation_id=summary.lower().replace(" ", "_") if summary in ("List keys", "List teams") else None,
        summary=summary,
        description=f"{summary}.",
        tags=list(description.tags),
        request=description.request,
        responses={**responses, **{(status, JSON): ERROR for status in sorted(description.errors)}},
        parameters=[
            OpenApiParameter(name, OpenApiTypes.STR, description=words)
            for name, words in (description.query or {}).items()
        ],
        examples=[OpenApiExample(summary, value=example, request_only=True)] if example is not None else [],
    )


class _BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its base has no types
    """Base class of the authentication schemes in `/openapi.json`, all of which are bearer tokens."""

    # With a scheme for each class, /docs would have several fields that look alike, each for a part of the operations.
    name = BEARER

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, object]:
        set_override(type(self.target), "suppress_collision_warning", True)  # several classes have this one scheme
        words = "A key. For pages about the server, the access token (`ACCESS_TOKEN`); for `/api`, an API token."
        return {"type": "http", "scheme": "bearer", "description": words}


class SecurityKeyScheme(_BearerScheme):  # type: ignore[no-untyped-call]  # likewise
    target_class = "proxyapi.dispatch.authentication.SecurityKeyAuthentication"


class AccessTokenScheme(_BearerScheme):  # type: ignore[no-untyped-call]  # likewise
    target_class = "proxyapi.dispatch.authentication.AccessTokenAuthentication"


class AccessTokenOrKeyScheme(_BearerScheme):  # type: ignore[no-untyped-call]  # likewise
    target_class = "proxyapi.pages.reports.AccessTokenOrKey"


class ApiTokenScheme(_BearerScheme):  # type: ignore[no-untyped-call]  # likewise
    target_class = "proxyapi.dispatch.authentication.ApiTokenAuthentication"
