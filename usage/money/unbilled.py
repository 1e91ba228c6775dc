"""Owns which calls upstream does not bill: they cost $0, and need no price.

Not billed is a call

* that makes no model work: it reads, deletes, changes or uploads an object, or counts tokens;
* that never reached upstream: the gateway has refused it, or there was no connection;
* that upstream has answered with an error, or with a response whose status is `failed`, without stating a usage.

A usage that upstream states is billed, however the call has ended: an `incomplete` response has one, and so can a
`cancelled` or `failed` one. A call that broke off in the middle may have been billed, and is none of these.

A call of an endpoint whose answers state no usage, such as `/v1/videos`, is none of these either, and has no cost:
docs/ledger.md lists them.

A background response is billed when it has ended. Until then the row of the call that has created the response has no
cost, and the price `COUNTED_AT_END`.
"""

from __future__ import annotations

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import CallRecord, Price
from usage.models import Outcome, UsageSource

NOT_BILLED = "not billed"  # the source of the price
# The price of a call whose background response has not ended, so that its usage is not known yet.
COUNTED_AT_END: Price = {"source": "counted when it ends"}

# Errors of the gateway for an answer of upstream's that came in part, or was too large: a model has worked.
_BROKEN_CODES = {"truncated", "upstream_answer_too_large"}
_DEAD_LETTER = "dead_letter"  # `usage.journal_shipping.rows.STUB`: a stub does not have all columns of its row
_FAMILIES = {
    "conversations", "models", "files", "uploads", "assistants", "vector_stores", "containers", "batches",
    "fine_tuning", "skills", "vaults", "webhook_endpoints", "webhook_event_types", "organization", "projects",
    "safety", "chatkit",
}  # fmt: skip
# POSTs of other families that make no model work.
_ROUTES = {
    "/openai2/{id}/cancel", "/v1/responses/{id}/cancel", "/v1/chat/completions/{id}",
    "/v1/audio/voices", "/v1/audio/voice_consents", "/v1/audio/voice_consents/{id}",
    "/v1/evals", "/v1/evals/{id}", "/v1/evals/{id}/runs/{id}/cancel", "/v1/agents", "/v1/agents/{id}",
    "/v1/threads", "/v1/threads/{id}", "/v1/threads/{id}/messages", "/v1/threads/{id}/messages/{id}",
    "/v1/threads/{id}/runs/{id}", "/v1/threads/{id}/runs/{id}/cancel",
    "/v1/realtime/client_secrets", "/v1/realtime/sessions", "/v1/realtime/transcription_sessions",
    "/v1/realtime/calls/{id}/hangup", "/v1/realtime/calls/{id}/reject", "/v1/realtime/calls/{id}/refer",
    "/v1/live/sessions/{id}/hangup", "/v1/live/sessions/{id}/reject",
}  # fmt: skip
_COUNTING_ROUTES = ("/openai2/input_tokens", "/v1/responses/input_tokens")  # their answers' counts are no usage


def why_unbilled(row: CallRecord) -> str:
    """Returns a sentence that says why upstream does not bill a call; an empty text if upstream may bill it.

    A call whose usage is known or estimated may be billed, except on routes that only count tokens.
    """
    route = row.get("route") or ""
    if route in _COUNTING_ROUTES or route.startswith("/v1/conversations"):
        return "Upstream does not bill this route."
    if row.get("usage") is not None or row.get("usage_source") in (UsageSource.EXACT, UsageSource.ESTIMATED):
        return ""
    if _is_unbilled_route(row.get("method") or "", route):
        return "Upstream does not bill this route."
    outcome = row.get("outcome")
    if outcome == Outcome.REJECTED:
        return "The gateway refused the call."
    if row.get("unbilled"):
        return "Upstream did not do the work."
    if outcome == Outcome.UPSTREAM_ERROR and row.get("error_code") not in {*_BROKEN_CODES, _DEAD_LETTER}:
        return "Upstream answered with an error."
    if outcome == Outcome.CLIENT_CANCELLED and row.get("upstream_ms") is None and row.get("error_code") != _DEAD_LETTER:
        return "The caller left before the call went upstream."
    return ""


def is_unfinished(row: CallRecord) -> bool:
    """Returns whether a call has created a response that goes on in the background, and that states no usage yet."""
    return row.get("response_status") in UNFINISHED_STATUSES and row.get("usage_source") == UsageSource.UNKNOWN


def _is_unbilled_route(method: str, route: str) -> bool:
    """Returns whether calls of a method and route make no model work."""
    if method in {"GET", "DELETE"}:
        return not route.startswith("/health")  # of these, a GET makes a model answer
    return route in _ROUTES or route.removeprefix("/v1/").partition("/")[0] in _FAMILIES
