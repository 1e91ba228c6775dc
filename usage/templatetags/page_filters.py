"""Filters and tags of the pages' templates: numbers with their units, strangers' text made harmless, links."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from usage.admin_pages.base_url import own_path
from usage.models import Request, UsageSource
from usage.page_data import call_page, filters, formatting
from usage.page_data.conversations.safe_markdown import markdown_html
from usage.page_data.errors import call_faults
from usage.untrusted_text import escape_invisible

register = template.Library()

register.simple_tag(own_path)
register.filter("count", formatting.count)
register.filter("dollars", formatting.dollars)
register.filter("call_dollars", formatting.call_dollars)
register.filter("cost_remark", call_page.cost_remark)
register.filter("error_title", call_page.error_title)
register.filter("outcome_label", call_faults.outcome_label)
register.filter("fault_of", call_faults.fault_of)
register.filter("fault_label", call_faults.fault_label)
register.filter("duration", formatting.duration)
register.filter("response_size", call_page.response_size)
register.filter("size", formatting.size)
register.filter("in_address", filters.in_address)


@register.filter
def visible(value: object, length: int = 0) -> str:
    """Returns text of a caller or of upstream in a form for pages: invisible characters become codes like `<U+202E>`.

    Tabs and line feeds stay. A text of more than `length` characters is cut, and gets an ellipsis; 0 means no limit.
    HTML is not escaped here, because the template does that.
    """
    return escape_invisible(str(value), length)


@register.filter
def lines_visible(text: str) -> str:
    """Returns a text of several lines for a page: invisible characters become codes, and CRLF becomes a line feed.

    Tabs and line feeds stay. HTML is not escaped here, because the template does that.
    """
    return escape_invisible(text.replace("\r\n", "\n"))


@register.filter
def markdown(text: str) -> str:
    """Converts text in Markdown to harmless HTML for a page (`safe_markdown`)."""
    return mark_safe(markdown_html(text))  # noqa: S308  (its HTML is made of checked tokens, text is escaped)


@register.filter
def called_model(call: Request) -> str:
    """Returns the name of the model that answered a call or, if that is unknown, of the model that was requested."""
    return call.response_model or call.request_model


@register.filter
def tokens(call: Request, column: str) -> str:
    """Returns the number of tokens in the column `column` of a call as HTML; the sign ≈ stands before an estimate.

    An unknown number is a dash.
    """
    value = getattr(call, column)
    is_estimate = value is not None and call.usage_source == UsageSource.ESTIMATED
    mark = '<abbr title="estimated: upstream did not state it">≈</abbr>\N{NARROW NO-BREAK SPACE}' if is_estimate else ""
    return format_html("{}{}", mark_safe(mark), formatting.count(value))  # noqa: S308  (the mark is a constant)


@register.filter
def moment(value: datetime | None, shown: str = "second") -> str:
    """Formats a time for a page as HTML, in UTC, such as "2026-11-30 13:07:42"; None becomes a dash.

    `shown` says how much of the time is shown: `minute`, `second` or `millisecond` with the date, or `clock` without
    it. If " UTC" follows, as in `minute UTC`, "(UTC)" is written after the time. In the browser, the script `times.js`
    can replace the time by that of the reader's zone.
    """
    if value is None:
        return formatting.UNKNOWN
    part, _, zone = shown.partition(" ")
    utc = value.astimezone(UTC)
    text = utc.strftime(
        "%H:%M:%S" if part == "clock" else "%Y-%m-%d %H:%M" if part == "minute" else "%Y-%m-%d %H:%M:%S"
    )
    text += f".{utc.microsecond // 1000:03}" if part == "millisecond" else ""
    return format_html(
        '<time datetime="{}" data-shown="{}">{}</time>{}',
        utc.isoformat(timespec="milliseconds"),
        part,
        text,
        mark_safe(' <span class="cp-zone-name">(UTC)</span>') if zone else "",
    )


@register.filter
def attribute(value: object, name: str) -> object:
    """Returns the attribute `name` of an object; for templates that have the attribute's name in a variable."""
    return getattr(value, name)


@register.filter
def pretty_json(value: object) -> str:
    """Formats a value as indented JSON for a page, with invisible characters replaced by codes."""
    return escape_invisible(json.dumps(value, indent=2, ensure_ascii=False))
