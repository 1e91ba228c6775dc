"""Exports calls and groups of errors as JSON, or as CSV without texts that a spreadsheet would take for a formula.

An export is made and sent batch by batch, so it is never in memory as a whole, and the client gets the first batch
before the last one is read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import orjson

from usage.call_record import Price
from usage.models import Request
from usage.page_data.errors.error_groups import ErrorGroup
from usage.page_data.filters import Filters
from usage.page_data.search import find_all
from usage.untrusted_text import csv_cell, escape_invisible

MESSAGE = "error_message"  # only for those who may see bodies: upstream may quote the prompt in it
# Of the price from which the cost was computed. Rates are dollars by unit: of a million, of a minute, or of each. Those
# of another model, which a hosted tool has run, have its name before the unit: `gpt-image-1 output`.
PRICE_COLUMNS = ("price_source", "price_model", "price_tier", "price_rates")
COLUMNS = (
    "started_at", "request_id", "incoming_request_id", "upstream_request_id", "response_id", "key_name", "method",
    "route", "request_model", "response_model", "stream", "service_tier", "status", "outcome", "error_type",
    "error_code",
    MESSAGE, "duration_ms", "time_to_first_chunk_ms", "upstream_ms", "overhead_ms", "request_bytes",
    "response_bytes", "client_address", "user_agent", "input_tokens", "cached_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "audio_seconds", "web_searches",
    "usage_source", "cost", "tags", "team", "owner", "end_user", "session", "by_gateway", "cost_kind", *PRICE_COLUMNS,
    "error_param",
)  # fmt: skip
GROUP_COLUMNS = (
    "calls", "fault", "outcome", "error_code", "message", "state", "first_at", "last_at", "keys", "models", "routes",
    "note", "sample_id", "parameter",
)  # fmt: skip
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
Row = Mapping[str, object]
Batches = Iterable[Sequence[Row]]


def export_calls(filters: Filters, kind: str) -> Iterator[bytes]:
    """Exports all calls that match the filters, newest first; yields the file in pieces.

    `kind` is `csv` or `json`. Error messages are included only if the person may see them (`Filters.with_messages`).

    Raises:
        django.db.OperationalError: a query takes longer than the time limit of a page. This is raised when a piece is
            taken, not by the call.
    """
    columns = [name for name in COLUMNS if name != MESSAGE or filters.with_messages]
    batches = ([_call_row(call, columns) for call in batch] for batch in find_all(filters))
    return _encode(batches, columns, kind)


def export_groups(groups: Sequence[ErrorGroup], kind: str, *, with_messages: bool) -> Iterator[bytes]:
    """Exports groups of failed calls; yields the file in pieces.

    `kind` is `csv` or `json`. `with_messages` says whether the person may see error messages.
    """
    columns = [name for name in GROUP_COLUMNS if name != "message" or with_messages]
    rows = [{name: row[name] for name in columns} for row in map(_group_row, groups)]
    return _encode([rows], columns, kind)


def _call_row(call: Request, columns: Sequence[str]) -> Row:
    price = _price_row(call.price or Price())
    return {name: price[name] if name in price else getattr(call, name) for name in columns}


def _price_row(price: Price) -> Row:
    """Converts the price of a call to the columns `PRICE_COLUMNS` of an export: source, model, tier, and rates as JSON.

    A column whose value is not known is an empty text.
    """
    rates = dict(price.get("per_million", {}))
    for item in price.get("items", []):
        if "rate" in item:
            rates[f"{item.get('model', '')} {item['unit']}".strip()] = item["rate"]
    rates |= {name: str(rate) for name in ("per_minute", "per_web_search") if (rate := price.get(name))}
    texts = (price.get("source", ""), price.get("model", ""), price.get("tier", ""))
    return dict(zip(PRICE_COLUMNS, (*texts, orjson.dumps(rates).decode() if rates else ""), strict=True))


def _group_row(group: ErrorGroup) -> Row:
    return {
        "calls": group.calls,
        "fault": group.fault,
        "outcome": group.kind.outcome,
        "error_code": group.kind.error_code,
        "message": group.message,
        "state": "returned" if group.has_returned else group.state,
        "first_at": group.first_at,
        "last_at": group.last_at,
        **{f"{name}s": group.counts[name] for name in ("key", "model", "route")},
        "note": group.known.note if group.known else "",
        "sample_id": group.sample_id,
        "parameter": group.parameter,
    }


def _encode(batches: Batches, columns: Sequence[str], kind: str) -> Iterator[bytes]:
    return _as_csv(batches, columns) if kind == "csv" else _as_json(batches)


def _as_csv(batches: Batches, columns: Sequence[str]) -> Iterator[bytes]:
    """Yields the pieces of a CSV file: a line with the names of the columns, then the rows of each batch."""
    lines = _LineBuffer()
    writer = csv.writer(lines)
    writer.writerow(columns)
    yield lines.take()
    for batch in batches:
        for row in batch:
            writer.writerow([_csv_value(row[name]) for name in columns])
        yield lines.take()


def _as_json(batches: Batches) -> Iterator[bytes]:
    """Yields the pieces of a JSON file: one list with all rows.

    Invisible characters in texts become codes such as `<U+202E>`.
    """
    before = b"["
    for batch in batches:
        rows = [orjson.dumps({name: _json_value(value) for name, value in row.items()}, default=str) for row in batch]
        # Without rows an empty piece, as in CSV: only between two pieces can an export whose reader has left be ended.
        yield before + b",\n".join(rows) if rows else b""
        before = b",\n" if rows else before
    yield b"[]" if before == b"[" else b"]"


def _csv_value(value: object) -> str:
    """Converts a value to the text of a CSV cell that a spreadsheet cannot take for a formula.

    Times are in ISO 8601, and the items of a list are joined by commas. None becomes an empty text.
    """
    if isinstance(value, list):
        return csv_cell(", ".join(map(str, value)))
    if isinstance(value, datetime):
        return value.isoformat()
    return csv_cell(value)


def _json_value(value: object) -> object:
    """Converts a value for JSON: in texts, invisible characters become codes; the items of a list become such texts.

    Returns any other value unchanged.
    """
    if isinstance(value, str):
        return escape_invisible(value)
    return [escape_invisible(str(item)) for item in value] if isinstance(value, list) else value


class _LineBuffer:
    """The file-like object to which the CSV writer writes. It holds the lines until `take` returns them."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> bytes:
        """Returns the CSV lines that were written since the last call of this method, and empties the buffer."""
        text, self._lines = "".join(self._lines), []
        return text.encode()
