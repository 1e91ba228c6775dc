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
    """Returns a text from a caller or from upstream for a page, with its invisible characters replaced by codes.

    The text is cut at `length` characters, unless that is 0. HTML is not escaped here, because the template does that.
    """
    return escape_invisible(str(value), length)


@register.filter
def called_model(call: Request) -> str:
    """Returns the name of the model that answered a call; if that is unknown, of the model that the call asked for."""
    return call.response_model or call.request_model


@register.filter
def attribute(value: object, name: str) -> object:
    """Returns the attribute `name` of an object, for templates that have the name in a variable."""
    return getattr(value, name)


@register.filter
def pretty_json(value: object) -> str:
    """Returns a value as indented JSON for a page, with invisible characters replaced by codes."""
    return escape_invisible(json.dumps(value, indent=2, ensure_ascii=False))
