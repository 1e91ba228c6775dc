"""`/openapi.json` describes one way to sign in, so `/docs` has one field for it, which works for all operations."""

from __future__ import annotations

import json
from typing import Any

from django.urls import resolve

from proxyapi.openapi import BEARER
from proxyapi.pages.api_description import describe_api

DESCRIPTION = json.loads(describe_api())


def test_there_is_one_way() -> None:
    schemes = DESCRIPTION["components"]["securitySchemes"]

    assert list(schemes) == [BEARER]
    assert (schemes[BEARER]["type"], schemes[BEARER]["scheme"]) == ("http", "bearer")


def test_each_operation_asks_for_it_if_its_view_does() -> None:
    asked, signed_in = {}, {}
    for path, methods in DESCRIPTION["paths"].items():
        match: Any = resolve(path.replace("{response_id}", "resp_1"), "proxyapi.urls")
        for method, described in methods.items():
            asked[method, path] = described.get("security", []) == [{BEARER: []}]
            signed_in[method, path] = bool(match.func.view_class.authentication_classes)

    assert asked == signed_in
    assert asked["post", "/openai"]
    assert asked["get", "/metrics"]
    assert asked["post", "/v1/responses"]
    assert not asked["get", "/healthz"]
