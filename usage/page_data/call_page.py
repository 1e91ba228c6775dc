"""The content of one call's page: the parts of its duration, the lines of its bill, and the logged bodies.

`reproduction` writes the command that makes the call again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypedDict

from usage.models import Request
from usage.page_data import formatting
from usage.page_data.reproduction import kept_request_body
from usage.page_data.untrusted_text import escape_invisible
from usage.shipping.response_cost import COUNTED_BEFORE, COUNTED_LATER

TIMELINE_WIDTH = 1000  # in the units of the drawing
MAX_OPEN_CHARACTERS = 20_000  # a longer body is folded at first
UNITS = {
    "input": "Input",
    "cached_input": "Input, cached",
    "cache_write": "Cache write",
    "audio_input": "Audio input",
    "cached_audio_input": "Audio input, cached",
    "image_input": "Image input",
    "cached_image_input": "Image input, cached",
    "output": "Output",
    "audio_output": "Audio output",
    "image_output": "Image output",
    "audio_seconds": "Audio",
    "web_search": "Web searches",
}


@dataclass(frozen=True)
class Phase:
    """One part of a call's duration, such as waiting for upstream, with its place on a drawn timeline.

    `x` and `width` are in units of the drawing, which is `TIMELINE_WIDTH` wide.
    """

    name: str
    text: str
    milliseconds: float
    x: float
    width: float


@dataclass(frozen=True)
class BillItem:
    """One line of a call's bill, all as text: the unit that was used, how much of it, its price, and the dollars."""

    name: str
    count: str
    rate: str
    dollars: str


class BilledItem(TypedDict):
    """One line of a call's bill as the call's row stores it: how much of a unit was used, and the dollars for it."""

    unit: str  # one of `UNITS`
    count: int | float
    dollars: str


class BilledPrice(TypedDict, total=False):
    """The price by which a call was billed, as the call's row stores it. Dollars are decimal numbers as text."""

    source: str
    model: str
    tier: str
    per_million: dict[str, str]  # dollars by unit
    per_minute: str
    per_web_search: str
    items: list[BilledItem]


@dataclass(frozen=True)
class DisplayedBody:
    """The body of a request or of an answer, as the page of the call shows it; folded at first unless `is_open` is
    true.
    """

    title: str
    text: str
    size: str
    is_open: bool


def timeline(call: Request) -> list[Phase]:
    """Returns the parts of a call's duration for the drawn timeline, in the order in which they happened.

    Together they are as long as the call. A part is left out if the call's row has no measurement of its end.
    """
    total = call.duration_ms
    if call.upstream_ms is None:
        return _placed([("ours", "Answered by us", total)], total)
    ours = min(call.overhead_ms or 0.0, total)
    received = max(0.0, total - call.upstream_ms - ours)
    begun = received + ours
    first = call.time_to_first_chunk_ms
    if first is None:
        return _placed([("received", "Receiving the request", received), ("ours", "Our own share", ours),
                        ("upstream", "Waiting for upstream", total - begun)], total)  # fmt: skip
    waited = max(0.0, first - begun)
    name = "Streaming the answer" if call.stream else "Passing the answer on"
    return _placed([("received", "Receiving the request", received), ("ours", "Our own share", ours),
                    ("upstream", "Waiting for the first byte of upstream's answer", waited),
                    ("stream", name, max(0.0, total - begun - waited))], total)  # fmt: skip


def _placed(phases: list[tuple[str, str, float]], total: float) -> list[Phase]:
    """Returns the given parts of a call (name, text, milliseconds) with their places on the timeline, one after
    another.

    Each part is drawn at least 2 units wide.
    """
    placed, at = [], 0.0
    for name, text, milliseconds in phases:
        width = TIMELINE_WIDTH * milliseconds / total if total else TIMELINE_WIDTH / len(phases)
        placed.append(Phase(name, text, milliseconds, round(at, 2), round(max(width, 2.0), 2)))
        at += width
    return placed


def bill(call: Request) -> list[BillItem]:
    """Returns the lines of a call's bill, from the price that the call's row stores. Their sum is the cost of the call.

    Units of which nothing was used are left out.
    """
    price: BilledPrice = call.price or BilledPrice()
    return [_bill_item(item, price) for item in price.get("items", []) if Decimal(str(item["count"]))]


def _bill_item(item: BilledItem, price: BilledPrice) -> BillItem:
    unit, count = item["unit"], item["count"]
    if unit == "audio_seconds":
        amount, rate = f"{count:,} s", f"${price.get('per_minute', '?')} a minute"
    elif unit == "web_search":
        amount, rate = f"{count:,}", f"${price.get('per_web_search', '?')} each"
    else:
        amount, rate = f"{count:,} tokens", f"${price.get('per_million', {}).get(unit, '?')} a million"
    return BillItem(UNITS.get(unit, unit), amount, rate, f"${Decimal(item['dollars']):.8f}")


def bill_note(call: Request) -> str:
    """Returns a sentence for below a call's bill: by which price the call was billed, or why it has no cost."""
    price: Mapping[str, object] = call.price or {}
    if price == COUNTED_BEFORE:
        return "The usage of this response was counted when it was made; looking at it again costs nothing."
    if price == COUNTED_LATER:
        return (
            "The usage of this response became known after this call had ended; it is counted where it was seen first."
        )
    if call.cost is None:
        return "No price is known for this model, or upstream did not say what was used. You can add an own price."
    source = "your own price" if price.get("source") == "own" else f"the price list of {price.get('source', 'unknown')}"
    return f"By {source}, for {price.get('model') or 'no model'}, tier {price.get('tier') or 'default'}."


def bodies(call: Request) -> list[DisplayedBody]:
    """Returns the logged bodies of a call's request and answer, prepared for display.

    A body that is missing is left out.

    JSON is indented, and invisible characters are made visible.
    """
    kept = getattr(call, "body", None)
    texts = ("Request", kept_request_body(call)), ("Answer", kept.response_body if kept else "")
    return [_displayed_body(title, text) for title, text in texts if text]


def _displayed_body(title: str, text: str) -> DisplayedBody:
    shown = escape_invisible(_indented(text))
    return DisplayedBody(title, shown, formatting.size(len(text.encode())), len(shown) <= MAX_OPEN_CHARACTERS)


def _indented(text: str) -> str:
    """Returns a text that is JSON with line breaks and indentation; returns any other text unchanged."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
