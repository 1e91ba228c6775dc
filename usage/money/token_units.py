"""Splits a call's tokens into units that have a price of their own, such as cached input; each token is in one unit.

If the counts are not enough, because they contradict each other or lack a split that the price needs, all tokens count
as the dearest kind, and none as cached. If only the length of sound is stated and only tokens have a price, or the
other way round, the one is computed from the other. `count_units` then marks the result as an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from usage.answers.estimate_rules import (
    MAX_INTERRUPTED_INPUT_TOKENS,
    SOUND_TOKENS_PER_SECOND,
    TRANSCRIPT_TOKENS_PER_SECOND,
    tokens_of_text,
)
from usage.answers.tokens import input_details, output_details, whole_count
from usage.call_record import CallRecord, TokenCount
from usage.models import UsageSource
from usage.prices.published_prices import ModelRates

UnitCounts: TypeAlias = list[tuple[str, int | float]]

# The counts that an estimate takes from a usage that contradicts itself.
_CHECKED: tuple[TokenCount, ...] = (
    "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip


def count_units(row: CallRecord, price: ModelRates) -> tuple[UnitCounts | None, bool]:
    """Counts how much a call has used of each unit that has a price, such as `input` tokens.

    Returns the counts (None if nothing is known of the usage), and whether they are certain. They are an estimate if
    the counts in the row are incomplete or contradict each other.
    """
    if (units := _stated_units(row, price)) is not None:
        return units, True
    stated = row.get("usage")
    if stated is None and row.get("usage_source") == UsageSource.UNKNOWN:
        return None, False
    into, out, cached, written, reasoned = (row.get(name) or 0 for name in _CHECKED)
    if not into and out:  # else nothing would be paid for what the model has read
        into = min(tokens_of_text(row.get("request_bytes") or 0), MAX_INTERRUPTED_INPUT_TOKENS)
    into = max(into, cached + written)
    total = whole_count((stated or {}).get("total_tokens"))
    highest = price.highest_rates(into)
    if (highest["output"] or 0) < (highest["input"] or 0) or highest["output"] is None:  # such as of an embedding model
        into, total = max(into, total - out), 0
    supposed: CallRecord = {
        "input_tokens": into,
        "output_tokens": max(out, reasoned, total - into),
        "usage_source": UsageSource.ESTIMATED,
    }
    if (seconds := row.get("audio_seconds")) is not None:
        supposed["audio_seconds"] = seconds
        if not into and not out and price.per_minute is None:
            into, out = math.ceil(seconds * SOUND_TOKENS_PER_SECOND), math.ceil(seconds * TRANSCRIPT_TOKENS_PER_SECOND)
            supposed |= {"input_tokens": into, "audio_input_tokens": into, "output_tokens": out}
    elif price.is_by_minute_only:
        heard = row.get("audio_input_tokens") or row.get("input_tokens") or into
        supposed["audio_seconds"] = heard / SOUND_TOKENS_PER_SECOND
    is_used = supposed["input_tokens"] or supposed["output_tokens"]
    return (_stated_units(supposed, price) if is_used else None), False


def _stated_units(row: CallRecord, price: ModelRates) -> UnitCounts | None:
    """Counts how much a call has used of each unit that has a price, from the counts in its row.

    Returns None if the counts in the row are incomplete or contradict each other.
    """
    stated_input, seconds = row.get("input_tokens"), row.get("audio_seconds")
    if price.is_by_minute_only:
        return None if seconds is None else _used([("audio_seconds", seconds)])
    used = row.get("other_usage") or {}
    characters = used.get("characters") if "characters" in price.rates else None
    if price.per_picture is not None and (pictures := used.get("pictures")):
        return [("picture", pictures)]  # the tokens beside them have no price, or are a guess
    if characters is not None:
        return [("characters", characters)]
    if stated_input is None and (seconds is None or (seconds and price.per_minute is None)):
        return None
    input_tokens, output_tokens = stated_input or 0, row.get("output_tokens") or 0
    total = (row.get("usage") or {}).get("total_tokens")
    if price.states_total and total not in (None, input_tokens + output_tokens):
        return None
    if whole_count(total) > input_tokens + output_tokens and seconds is None:  # some of the tokens have no other count
        return None
    into = _input_counts(row, price, input_tokens)
    out = _output_counts(row, price, output_tokens)
    if into is None or out is None:
        return None
    counts: UnitCounts = [*into, *out]
    if seconds and (price.per_minute is not None or stated_input is None):
        counts.append(("audio_seconds", seconds))
    return _used(counts)


def _used(counts: UnitCounts) -> UnitCounts:
    """Returns the counts that are more than zero."""
    return [(unit, count) for unit, count in counts if count]


def picture_row(usage: Mapping[str, object]) -> CallRecord:
    """Converts the usage of the image tool to fields of a call's row, so that it can be priced like a call."""
    cached = usage.get("cached_tokens_details")
    by_kind = None
    if isinstance(cached, dict):
        by_kind = {f"{kind}_tokens": cached.get(f"cached_{kind}_tokens") for kind in ("image", "text")}
    details = {**input_details(usage), "cached_tokens_details": by_kind}
    return {
        "input_tokens": whole_count(usage.get("input_tokens")),
        "output_tokens": whole_count(usage.get("output_tokens")),
        "cached_tokens": whole_count(usage.get("cached_tokens")),
        "usage": {**usage, "input_tokens_details": details},
    }


def _input_counts(row: CallRecord, price: ModelRates, total: int) -> list[tuple[str, int]] | None:
    """Splits a call's `total` input tokens into units that have prices of their own: `input`, `cached_input` and so on.

    Returns None if the row does not state how many tokens of a unit there are, or if its counts contradict each other.
    """
    cached, written = row.get("cached_tokens") or 0, row.get("cache_write_tokens") or 0
    if not (cached or written or row.get("audio_input_tokens") or "input" in price.splits):
        return [("input", total)]
    details = input_details(row.get("usage") or {})
    split = _audio_and_image(row, price, "input", details, total)
    by_lifetime = details.get("cache_write_tokens_details")
    long = whole_count(by_lifetime.get("ttl_12h_tokens")) if isinstance(by_lifetime, dict) else 0
    if split is None or cached + written > total:
        return None
    audio, image = split
    text = total - audio - image
    by_kind = details.get("cached_tokens_details")
    if isinstance(by_kind, dict):
        cached_audio = min(whole_count(by_kind.get("audio_tokens")), audio)
        cached_image = min(whole_count(by_kind.get("image_tokens")), image)
        cached_text = cached - cached_audio - cached_image
    else:
        # Upstream has not stated of which kind they are. A cache lowers the price of text least.
        cached_text = min(cached, text)
        cached_audio = min(cached - cached_text, audio)
        cached_image = cached - cached_text - cached_audio
    if not 0 <= cached_text <= text:
        return None
    written = min(written, text - cached_text)
    long = min(long, written)
    return [
        ("input", text - cached_text - written),
        ("cached_input", cached_text),
        ("cache_write", written - long),
        ("cache_write_12h", long),
        ("audio_input", audio - cached_audio),
        ("cached_audio_input", cached_audio),
        ("image_input", image - cached_image),
        ("cached_image_input", cached_image),
    ]


def _output_counts(row: CallRecord, price: ModelRates, total: int) -> list[tuple[str, int]] | None:
    """Splits a call's `total` output tokens into units that have prices of their own, such as `audio_output`.

    Reasoning tokens count as `output`. Returns None if the row does not state how many tokens of a unit there are, or
    if its counts contradict each other.
    """
    if (row.get("reasoning_tokens") or 0) > total:
        return None
    if not row.get("audio_output_tokens") and "output" not in price.splits:
        return [("output", total)]
    details = output_details(row.get("usage") or {})
    split = _audio_and_image(row, price, "output", details, total)
    if split is None:
        return None
    audio, image = split
    return [("output", total - audio - image), ("audio_output", audio), ("image_output", image)]


def _audio_and_image(
    row: CallRecord, price: ModelRates, direction: Literal["input", "output"], details: Mapping[str, object], total: int
) -> tuple[int, int] | None:
    """Returns how many of a call's `total` input or output tokens are billed as audio, and how many as image.

    The other tokens are billed as text, as are image tokens without a rate of their own. If upstream does not state the
    numbers by kind:

    * Estimated tokens are all billed as the most expensive kind.
    * The output of an image model is billed as image.
    * Otherwise the result is None, unless all kinds have the same rate.

    The result is also None if the stated numbers contradict each other.
    """
    audio = row.get("audio_input_tokens") if direction == "input" else row.get("audio_output_tokens")
    text_rate = price.rates.get(direction)
    audio_apart = price.rates.get(f"audio_{direction}", text_rate) != text_rate
    # Most models bill images as text: they have no image rate.
    image_apart = f"image_{direction}" in price.rates
    has_details = "text_tokens" in details or "image_tokens" in details
    is_stated = audio is not None or has_details
    if row.get("usage_source") == UsageSource.ESTIMATED and not has_details:
        if audio is not None:
            return (audio, 0) if audio_apart and f"audio_{direction}" in price.rates else (0, 0)
        units = (direction, f"audio_{direction}", f"image_{direction}")
        rates = [price.rate(unit, total) or 0 if unit in price.rates else -1 for unit in units]
        # Estimated tokens all count as the dearest kind.
        dearest = rates.index(max(rates))
        return (total if dearest == 1 else 0), (total if dearest == 2 else 0)
    if total and (audio_apart or image_apart) and not is_stated:
        # Events of a stream do not split the output of an image model: all of it is image.
        return (0, total) if direction == "output" and not audio_apart else None
    image = whole_count(details.get("image_tokens")) if image_apart else 0
    audio = audio or 0
    return (audio, image) if audio + image <= total else None
