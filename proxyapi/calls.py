"""Owns one call's life: what is known of it, from admission to its row in the ledger.

Invariants: `begin` comes before upstream hears of the call; `end` writes exactly once, whoever
calls it first; no key, no header and no body is in a row.
"""

from __future__ import annotations

import ipaddress
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from proxyapi.exceptions import StorageFull
from usage import journal
from usage.answers import Answer
from usage.ledger import ledger
from usage.models import Outcome, UsageSource

if TYPE_CHECKING:
    from proxyapi.exceptions import ProxyError
    from proxyapi.requests import CallRequest
    from proxyapi.upstream import UpstreamAnswer


class Call:
    """One call; without a `key_name` it was not let in and has no row. Times are `time.perf_counter()` seconds."""

    def __init__(self, request: CallRequest, *, route: str) -> None:
        self.request = request
        self.route = route
        self.key_name = ""
        self.model = ""
        self.stream = False
        self.pollable = False  # whether we may ask upstream about it later: not with a key that is the caller's own
        self.answer = Answer()
        self.upstream_request_id = ""
        self.response_bytes = 0
        self.sent_upstream_at: float | None = None
        self.upstream_ended_at: float | None = None
        self.first_chunk_at: float | None = None
        self.ended = False

    def begin(self) -> None:
        """Admits the call: from here on it will have a row, whatever happens.

        Raises:
            StorageFull: that cannot be promised.
        """
        self.sent_upstream_at = time.perf_counter()
        try:
            ledger.begin(str(self.request.request_id), self._facts())
        except journal.StorageFull:
            raise StorageFull from None

    def answered(self, answer: UpstreamAnswer) -> None:
        """Upstream's head is here."""
        self.upstream_request_id = answer.request_id

    def upstream_ended(self) -> None:
        """Upstream has said all it has to say."""
        self.upstream_ended_at = time.perf_counter()

    def relayed(self, size: int) -> None:
        """`size` bytes of the answer are on their way to the caller."""
        if self.first_chunk_at is None:
            self.first_chunk_at = time.perf_counter()
        self.response_bytes += size

    def fail(self, error: ProxyError, *, status: int | None) -> None:
        """Ends the call with an error of ours; `status` is what the caller saw."""
        self.answer.error = {"type": error.type, "code": error.code, "message": error.words}
        self.end(error.outcome, status)

    def end(self, outcome: Outcome, status: int | None) -> None:
        """Writes the row, unless no valid key let the call in. Only the first call of this method counts."""
        if self.ended or not self.key_name:
            return
        self.ended = True
        ledger.end(str(self.request.request_id), self._row(outcome, status))

    def _facts(self) -> dict[str, Any]:
        """What is known before upstream answers."""
        request = self.request
        return {
            "incoming_request_id": request.incoming_request_id,
            "key_name": self.key_name,
            "method": request.method,
            "route": self.route,
            "request_model": _clip(self.model, 200),
            "stream": self.stream,
            "started_at": datetime.fromtimestamp(request.arrived_at, UTC),
            "request_bytes": request.body_size,
            "client_address": _address(request.META.get("REMOTE_ADDR")),
            "user_agent": _clip(request.META.get("HTTP_USER_AGENT", ""), 300),
        }

    def _row(self, outcome: Outcome, status: int | None) -> dict[str, Any]:
        answer = self.answer
        error = answer.error or {}
        return {
            **self._facts(),
            "upstream_request_id": _clip(self.upstream_request_id, 200),
            "response_id": _clip(answer.response_id, 200),
            "response_status": answer.response_status,
            "pollable": self.pollable,
            "response_model": _clip(answer.model, 200),
            "service_tier": _clip(answer.service_tier, 50),
            "status": status,
            "outcome": outcome,
            "error_type": _clip(error.get("type", ""), 200),
            "error_code": _clip(error.get("code", ""), 200),
            "error_message": _clip(error.get("message", ""), 2000),
            **self._timings(),
            "response_bytes": self.response_bytes,
            **answer.counts,
            "usage": answer.usage,
            "usage_source": UsageSource.EXACT if answer.usage is not None else UsageSource.UNKNOWN,
        }

    def _timings(self) -> dict[str, float | None]:
        now = time.perf_counter()
        timings: dict[str, float | None] = {"duration_ms": _ms(now - self.request.started)}
        if self.first_chunk_at is not None:
            timings["time_to_first_chunk_ms"] = _ms(self.first_chunk_at - self.request.started)
        if self.sent_upstream_at is not None:
            upstream_ended = self.upstream_ended_at or now
            timings["upstream_ms"] = _ms(upstream_ended - self.sent_upstream_at)
            ours = (self.sent_upstream_at - self.request.received) + (now - upstream_ended)
            timings["overhead_ms"] = _ms(ours)
        return timings


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _clip(value: str, length: int) -> str:
    """PostgreSQL's text takes no NUL and no lone surrogate; a column takes `length` characters."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:length]


def _address(value: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(value or ""))
    except ValueError:
        return None
