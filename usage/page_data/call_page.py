"""The content of one call's page: why it failed, the parts of its duration, the lines of its bill, its logged bodies.

`reproduction` writes the command that makes the call again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.utils.text import capfirst

from usage.call_record import Price, PricedItem
from usage.journal_shipping.response_billing import COUNTED_BEFORE, COUNTED_LATER
from usage.models import CostKind, Outcome, Request
from usage.money.tool_fees import CONTAINER_MINUTES, CONTAINERS
from usage.money.unbilled import COUNTED_AT_END, NOT_BILLED, NOT_COUNTED
from usage.page_data import formatting
from usage.page_data.conversations.cut_json import split_cut
from usage.page_data.conversations.message_parts import indented
from usage.page_data.conversations.reader import conversation_of
from usage.page_data.conversations.turns import Conversation
from usage.page_data.errors.call_faults import outcome_label
from usage.page_data.reproduction import kept_request_body
from usage.untrusted_text import escape_invisible

TIMELINE_WIDTH = 1000  # in the units of the drawing
MAX_OPEN_CHARACTERS = 20_000  # a longer body is folded at first
UNITS = {
    "input": "Input",
    "cached_input": "Input, cached",
    "cache_write": "Cache write",
    "cache_write_12h": "Cache write, kept 12 hours",
    "audio_input": "Audio input",
    "cached_audio_input": "Audio input, cached",
    "image_input": "Image input",
    "cached_image_input": "Image input, cached",
    "output": "Output",
    "audio_output": "Audio output",
    "image_output": "Image output",
    "audio_seconds": "Audio",
    "web_search": "Web searches",
    "search_content": "Input found by the searches",
    "file_search": "File searches",
    "characters": "Text to speak",
    "picture": "Pictures",
    **{f"container_{size}": f"Container with {size.removesuffix('g')} GB" for size in CONTAINERS},
}


@dataclass(frozen=True)
class Phase:
    """One part of a call's duration, such as waiting for upstream, with its place on the drawn timeline.

    `name` is a short code by which the page chooses a colour, and `text` is the label. `x` and `width` are in units of
    the drawing, which is `TIMELINE_WIDTH` wide.
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
    kind: str  # `estimated` or `provisional`; empty for an exact item


@dataclass(frozen=True)
class DisplayedBody:
    """The body of a request or of an answer, prepared for the page of one call.

    The page shows the body folded at first, unless `is_open` is true.
    """

    title: str
    text: str
    size: str
    is_open: bool


@dataclass(frozen=True)
class StoredSize:
    """How many bytes of a logged body of a call are stored, and how many were cut; `name` is `request` or `answer`."""

    name: str
    kept_bytes: int
    cut_bytes: int

    @property
    def whole_bytes(self) -> int:
        """The size of the logged body before it was cut, in bytes."""
        return self.kept_bytes + self.cut_bytes


def timeline(call: Request) -> list[Phase]:
    """Returns the parts of a call's duration in order of time, such as waiting for upstream, to be drawn as a timeline.

    They add up to the duration. If the call never went upstream, there is only one part. If the time of the answer's
    first byte is unknown, waiting for the answer and passing it on are one part.
    """
    total = call.duration_ms
    if call.upstream_ms is None:
        return _placed([("ours", "Answered by the gateway", total)], total)
    ours = min(call.overhead_ms or 0.0, total)
    received = max(0.0, total - call.upstream_ms - ours)
    begun = received + ours
    if (first := call.time_to_first_chunk_ms) is None:
        return _placed([("received", "Receiving the request", received), ("ours", "Gateway", ours),
                        ("upstream", "Waiting for upstream", total - begun)], total)  # fmt: skip
    waited = max(0.0, min(first, total) - begun)
    name = "Streaming the answer" if call.stream else "Passing the answer on"
    return _placed([("received", "Receiving the request", received), ("ours", "Gateway", ours),
                    ("upstream", "Waiting for the first byte from upstream", waited),
                    ("stream", name, max(0.0, total - begun - waited))], total)  # fmt: skip


def _placed(phases: list[tuple[str, str, float]], total: float) -> list[Phase]:
    """Converts the parts of a call's duration to `Phase` objects, which have their places on the drawn timeline.

    `phases` has the name, text and milliseconds of each part. `total` is the call's duration in milliseconds. Each part
    is drawn at least 2 units wide; the timeline has `TIMELINE_WIDTH` units.
    """
    placed, at = [], 0.0
    for name, text, milliseconds in phases:
        width = TIMELINE_WIDTH * milliseconds / total if total else TIMELINE_WIDTH / len(phases)
        placed.append(Phase(name, text, milliseconds, round(at, 2), round(max(width, 2.0), 2)))
        at += width
    return placed


def error_title(call: Request) -> str:
    """Returns the title of a failed call's error: its code or, if there is none, the outcome of the call in words.

    If the caller has left, the title says after how long, and how many bytes of the answer had been sent.
    """
    if call.outcome == Outcome.CLIENT_CANCELLED:
        sent = f"{formatting.size(call.response_bytes)} sent" if call.response_bytes else "nothing sent"
        return f"Caller left after {formatting.duration(call.duration_ms)} ({sent})"
    return call.error_code or capfirst(outcome_label(call))


def error_text(call: Request) -> str:
    """Returns why a call failed: the error's message or, if there is none, the answer's status, size and first line.

    The text is empty if the caller has left and there is no message. It may quote the prompt, so show it only to people
    who may see bodies.
    """
    if call.error_message or call.outcome == Outcome.CLIENT_CANCELLED:
        return call.error_message
    kept = getattr(call, "body", None)
    first, _, _ = (kept.response_body if kept else "").lstrip().partition("\n")
    status = f"Status {call.status}" if call.status else "No status"
    return f"{status}, {formatting.size(call.response_bytes)} sent, and no error message. {first}".strip()


def is_unknown(call: Request) -> bool:
    """Returns whether a call was refused while its model was unknown: its body was not read, or names no model."""
    has_model = bool(call.request_model or call.response_model)
    return call.outcome == Outcome.REJECTED and call.method == "POST" and not has_model and not call.stream


def response_size(call: Request) -> str:
    """Returns the size of a call's answer as text; a dash if the gateway itself answered and no size was recorded."""
    is_own = call.status is not None and call.outcome in (Outcome.REJECTED, Outcome.TIMEOUT, Outcome.UNREACHABLE)
    return formatting.size(call.response_bytes or None if is_own else call.response_bytes)


def cost_remark(call: Request) -> str:
    """Returns the remark below a call's cost in a list; an empty text for an exact cost.

    * For other costs: `estimated`, or `provisional` if the price is assumed.
    * For a cost of $0 that has a reason: `not billed` or `not counted`.
    * Without a cost: `needs a price`, or `counted when it ends` for a background response.
    """
    if (source := (call.price or {}).get("source")) in (NOT_BILLED, NOT_COUNTED):
        return str(source)
    if call.cost is not None:
        return call.cost_kind if call.cost_kind in (CostKind.ESTIMATED, CostKind.PROVISIONAL) else ""
    return "needs a price" if call.price is None else "counted when it ends"


def bill_summary(call: Request) -> str:
    """Returns the text above a call's bill: how certain usage and cost are, or why the call has no cost of its own."""
    price: Mapping[str, object] = call.price or {}
    remark = cost_remark(call)
    if price.get("source") in (NOT_BILLED, NOT_COUNTED):
        return remark
    if price in (COUNTED_BEFORE, COUNTED_LATER):
        return "counted elsewhere"
    if call.cost is None:
        return remark
    return f"usage {call.get_usage_source_display()}, cost {call.cost_kind or CostKind.EXACT}"


def bill(call: Request) -> list[BillItem]:
    """Returns the lines of a call's bill, one for each unit that was used; they add up to the call's cost."""
    price: Price = call.price or Price()
    return [_bill_item(item, price) for item in price.get("items", []) if Decimal(str(item["count"]))]


def _bill_item(item: PricedItem, price: Price) -> BillItem:
    unit, count = item["unit"], item["count"]
    rate = item.get("rate") or price.get("per_million", {}).get(unit, "?")
    if unit == "audio_seconds":
        amount, rate = f"{count:,} s", f"${price.get('per_minute', '?')} a minute"
    elif unit == "web_search":
        amount, rate = f"{count:,}", f"${price.get('per_web_search', '?')} each"
    elif unit in {"file_search", "picture"}:
        amount, rate = f"{count:,}", f"${rate} each"
    elif unit.startswith("container_"):
        amount, rate = f"{count:,} min", f"${rate} for {CONTAINER_MINUTES} min"
    else:
        amount, rate = f"{count:,} {'characters' if unit == 'characters' else 'tokens'}", f"${rate} a million"
    name = UNITS.get(unit, unit)
    if model := item.get("model"):
        name = f"{name}, {escape_invisible(model)}"
    return BillItem(name, amount, rate, f"${Decimal(item['dollars']):.8f}", item.get("kind", ""))


def bill_note(call: Request, *, is_own: bool = False) -> str:
    """Returns the sentence below a call's bill: which price list was used, or why the call has no cost.

    With `is_own`, it is for the key's holder: it does not advise to search for the response ID, which only the admin
    can.
    """
    price: Mapping[str, object] = call.price or {}
    if price == COUNTED_BEFORE:
        return "The usage of this response was counted when it was made; looking at it again costs nothing."
    if price == COUNTED_LATER:
        later = (
            "The usage of this response became known after this call had ended. It is counted once, in the call that"
            " learnt it first"
        )
        return f"{later}{'; polls of the gateway are not listed.' if is_own else ': search for the response ID.'}"
    if price == COUNTED_AT_END:
        return "The response goes on in the background; its usage is counted when it ends."
    if price.get("source") == NOT_BILLED:
        return f"Not billed. {price.get('note', '')}".strip()
    if price.get("source") == NOT_COUNTED:
        return f"Not counted. {price.get('note', '')}".strip()
    if call.cost is None:
        return "No price is known for this model and service tier."
    kind = {
        CostKind.ESTIMATED: " An estimate: upstream did not state all that was used.",
        CostKind.PROVISIONAL: " Provisional: no price is published for this model and tier, so this one is assumed.",
    }.get(CostKind(call.cost_kind or CostKind.EXACT), "")
    listed = f"the price list of {price.get('source', 'unknown')}"
    source = "your custom price" if price.get("source") == "own" else listed
    return f"By {source}, for {price.get('model') or 'no model'}, tier {price.get('tier') or 'default'}.{kind}"


def stored_bodies(call: Request) -> dict[str, str]:
    """Returns the logged bodies of a call as stored, by the names `request` and `answer`; leaves out empty ones."""
    kept = getattr(call, "body", None)
    texts = {"request": kept_request_body(call), "answer": kept.response_body if kept else ""}
    return {name: text for name, text in texts.items() if text}


def stored_sizes(call: Request) -> list[StoredSize]:
    """Returns how many bytes of each logged body of a call are stored, and how many were cut; skips empty bodies."""
    found = []
    for name, text in stored_bodies(call).items():
        kept, cut_bytes = split_cut(text)
        found.append(StoredSize(name, len(kept.encode()), cut_bytes))
    return found


def bodies(call: Request) -> list[DisplayedBody]:
    """Returns the logged bodies of a call for its page, with JSON indented and invisible characters made visible.

    JSON is indented even if it was cut. A body that was not logged is left out.
    """
    return [_displayed_body(name.capitalize(), text) for name, text in stored_bodies(call).items()]


def _displayed_body(title: str, text: str) -> DisplayedBody:
    shown = escape_invisible(indented(text))
    return DisplayedBody(title, shown, formatting.size(len(text.encode())), len(shown) <= MAX_OPEN_CHARACTERS)


def conversation(call: Request) -> Conversation | None:
    """Returns the conversation that a call's logged bodies contain; None if they contain none, or were not logged."""
    texts = stored_bodies(call)
    return conversation_of(call.route, texts.get("request", ""), texts.get("answer", ""), is_streamed=call.stream)
