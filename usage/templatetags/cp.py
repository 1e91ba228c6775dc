"""Filters and tags of the pages' templates: numbers with their units, strangers' text made inert, links."""

from __future__ import annotations

import json
from typing import Any

from django import template

from usage.models import Request
from usage.page_data import formatting
from usage.page_data.base_url import own_path
from usage.page_data.untrusted_text import inert as make_inert

register = template.Library()

register.simple_tag(own_path)
register.filter("count", formatting.count)
register.filter("dollars", formatting.dollars)
register.filter("duration", formatting.duration)
register.filter("size", formatting.size)


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
