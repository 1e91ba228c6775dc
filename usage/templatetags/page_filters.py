"""Filters and tags of the pages' templates: numbers with their units, strangers' text made harmless, links."""

from __future__ import annotations

import json

from django import template

from usage.models import Request
from usage.page_data import formatting
from usage.page_data.untrusted_text import escape_invisible
from usage.pages.base_url import own_path

register = template.Library()

register.simple_tag(own_path)
register.filter("count", formatting.count)
register.filter("dollars", formatting.dollars)
register.filter("duration", formatting.duration)
register.filter("size", formatting.size)


@register.filter
def visible(value: object, length: int = 0) -> str:
    """Returns a stranger's text for a page: invisible characters as codes, cut at `length`; HTML is not escaped here.

    The template escapes HTML afterwards.
    """
    return escape_invisible(str(value), length)


@register.filter
def called_model(call: Request) -> str:
    """Returns the model that answered a call; if that is unknown, the model that the request asked for."""
    return call.response_model or call.request_model


@register.filter
def attribute(value: object, name: str) -> object:
    """Returns the attribute of an object whose name is in a variable of the template."""
    return getattr(value, name)


@register.filter
def pretty_json(value: object) -> str:
    """Returns a value as indented JSON, for display on a page."""
    return escape_invisible(json.dumps(value, indent=2, ensure_ascii=False))
