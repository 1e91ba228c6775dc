"""Owns the exporting of calls and of groups of errors: CSV that no spreadsheet computes, JSON that any program reads.

It comes piece by piece: no export is held in memory, and none waits for its end.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from usage.models import Request
from usage.page_data.error_groups import ErrorGroup
from usage.page_data.search import Filters, find_all
from usage.page_data.untrusted_text import csv_cell, escape_invisible

MESSAGE = "error_message"  # for those who may see bodies: an upstream may quote the prompt in it
COLUMNS = (
    "started_at", "request_id", "incoming_request_id", "upstream_request_id", "response_id", "key_name", "method",
    "route", "request_model", "response_model", "stream", "service_tier", "status", "outcome", "error_type",
    "error_code",
    MESSAGE, "duration_ms", "time_to_first_chunk_ms", "upstream_ms", "overhead_ms", "request_bytes",
    "response_bytes", "client_address", "user_agent", "input_tokens", "cached_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "audio_seconds", "web_searches",
    "usage_source", "cost", "tags", "by_gateway",
)  # fmt: skip
GROUP_COLUMNS = (
    "calls", "outcome", "status", "error_code", "model", "route", "first_at", "last_at", "keys", "note", "sample_id"
)  # fmt: skip
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
Rows = Iterable[Sequence[dict[str, Any]]]


def export_calls(filters: Filters, kind: str) -> Iterator[bytes]:
    """Every call that fulfils the filters, newest first; without `MESSAGE` where the filters leave that out."""
    columns = [name for name in COLUMNS if name != MESSAGE or filters.with_messages]
    batches = ([_call(call, columns) for call in batch] for batch in find_all(filters))
    return _written(batches, columns, kind)


def export_groups(groups: Sequence[ErrorGroup], kind: str) -> Iterator[bytes]:
    return _written([[_group(group) for group in groups]], GROUP_COLUMNS, kind)


def _call(call: Request, columns: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(call, name) for name in columns}


def _group(group: ErrorGroup) -> dict[str, Any]:
    return {
        **group.kind._asdict(),
        "calls": group.calls,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "keys": group.key_count,
        "note": group.known.note if group.known else "",
        "sample_id": group.sample_id,
    }


def _written(batches: Rows, columns: Sequence[str], kind: str) -> Iterator[bytes]:
    return _as_csv(batches, columns) if kind == "csv" else _as_json(batches)


def _as_csv(batches: Rows, columns: Sequence[str]) -> Iterator[bytes]:
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow(columns)
    yield lines.taken()
    for batch in batches:
        for row in batch:
            writer.writerow([_csv_value(row[name]) for name in columns])
        yield lines.taken()


def _as_json(batches: Rows) -> Iterator[bytes]:
    """One list; strings have what is unseen made visible, as on the pages."""
    between = b"["
    for batch in batches:
        for row in batch:
            yield between + orjson.dumps({name: _plain(value) for name, value in row.items()}, default=str)
            between = b",\n"
    yield b"[]" if between == b"[" else b"]"


def _csv_value(value: Any) -> str:
    if isinstance(value, list):
        return csv_cell(", ".join(map(str, value)))
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return csv_cell(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return escape_invisible(value)
    return [escape_invisible(str(item)) for item in value] if isinstance(value, list) else value


class _Lines:
    """What a CSV writer has written and nobody has taken yet."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line)

    def taken(self) -> bytes:
        text, self._lines = "".join(self._lines), []
        return text.encode()
