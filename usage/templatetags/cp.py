"""Filters and tags of the pages' templates: numbers with their units, strangers' text made inert, links."""

from __future__ import annotations

import json
from typing import Any

from django import template

from usage import shown
from usage.base_url import own_path
from usage.inert import inert as make_inert
from usage.models import Request

register = template.Library()

register.simple_tag(own_path)
register.filter("count", shown.count)
register.filter("dollars", shown.dollars)
register.filter("duration", shown.duration)
register.filter("size", shown.size)


@register.filter
def inert(value: Any, length: int = 0) -> str:
    """Text of a stranger; not safe HTML: the template still escapes it."""
    return make_inert(str(value), length)


@register.filter
def called_model(call: Request) -> str:
    return call.response_model or call.request_model


@register.filter
def part(value: object, name: str) -> Any:
    """An attribute whose name is in a variable."""
    return getattr(value, name)


@register.filter
def pretty(value: Any) -> str:
    """JSON, to be read."""
    return make_inert(json.dumps(value, indent=2, ensure_ascii=False))
