"""Decides which calls upstream does not bill, and which it bills without ever stating how much.

A call is not billed if

* it makes no model work, and nothing that upstream bills later: it reads, deletes, changes or uploads an object, or
  counts tokens;
* it never reached upstream: the gateway has refused it, or there was no connection;
* upstream has answered with an error, or with a response whose status is `failed`, without stating a usage or the work
  of a hosted tool.

Such a call costs $0, and needs no price. Usage that upstream states is billed, however the call has ended: an
`incomplete` response has usage, and a `cancelled` or `failed` one may have. A call that broke off in the middle may
have been billed, so it is none of these.

A background response is billed when it has ended. Until then the row of the call that has created the response has no
cost, and the price `COUNTED_AT_END`.

A call is not counted (`NOT_COUNTED`) if upstream may bill it, now or later, but its usage is unknown: its endpoint
states none (`/v1/videos`, `/v1/batches`), or its record is lost. No price could change that, so its row has the cost 0,
as an estimate with a note; docs/ledger.md lists these calls.
"""

from __future__ import annotations

from usage.answers.reader import UNFINISHED_STATUSES
from usage.answers.tokens import whole_count
from usage.call_record import STUB_CODE, TOKEN_COUNTS, CallRecord, Price
from usage.models import Outcome, UsageSource

NOT_BILLED = "not billed"  # the source of the price
NOT_COUNTED = "not counted"  # the source of the price
UNBILLED_ROUTE = "Upstream does not bill this route."  # the note of the price
# The price of a call whose background response has not ended, so that its usage is not known yet.
COUNTED_AT_END: Price = {"source": "counted when it ends"}

# Errors of the gateway for an answer of upstream's that came in part, or was too large: a model has worked.
_BROKEN_CODES = {"truncated", "upstream_answer_too_large"}

# The POSTs that upstream does not bill: all of these families, and those of other families by their routes.
ADMINISTRATION = {"organization", "projects"}
FREE_FAMILIES = {
    "conversations", "models", "moderations", "files", "uploads", "assistants", "skills", "vaults",
    "webhook_endpoints", "webhook_event_types", "safety", *ADMINISTRATION,
}  # fmt: skip
FREE_ROUTES = {
    "/openai2/{id}/cancel", "/openai2/input_tokens", "/v1/responses/{id}/cancel", "/v1/responses/input_tokens",
    "/v1/chat/completions/{id}", "/v1/audio/voices", "/v1/audio/voice_consents", "/v1/audio/voice_consents/{id}",
    "/v1/vector_stores/{id}", "/v1/vector_stores/{id}/files/{id}", "/v1/vector_stores/{id}/file_batches/{id}/cancel",
    "/v1/batches/{id}/cancel", "/v1/containers/{id}/files",
    "/v1/fine_tuning/alpha/graders/validate", "/v1/fine_tuning/checkpoints/{id}/permissions",
    "/v1/fine_tuning/jobs/{id}/cancel", "/v1/fine_tuning/jobs/{id}/pause",
    "/v1/evals", "/v1/evals/{id}", "/v1/evals/{id}/runs/{id}/cancel",
    "/v1/agents", "/v1/agents/{id}", "/v1/agents/automations/{id}/pause",
    "/v1/threads", "/v1/threads/{id}", "/v1/threads/{id}/messages", "/v1/threads/{id}/messages/{id}",
    "/v1/threads/{id}/runs/{id}", "/v1/threads/{id}/runs/{id}/cancel", "/v1/chatkit/sessions/{id}/cancel",
    "/v1/realtime/calls/{id}/hangup", "/v1/realtime/calls/{id}/reject", "/v1/realtime/calls/{id}/refer",
    "/v1/live/sessions/{id}/hangup", "/v1/live/sessions/{id}/reject", "/v1/live/sessions/{id}/refer",
}  # fmt: skip
TOOL_USES = ("image_tokens", "svg", "file_searches", "containers")  # fields of `OtherUsage`
_COUNTING_ROUTES = ("/openai2/input_tokens", "/v1/responses/input_tokens")  # their answers' counts are no usage


def is_free(method: str, route: str) -> bool:
    """Returns whether upstream bills nothing for calls of this method and route, neither now nor later."""
    if method in {"GET", "HEAD", "DELETE"}:
        return not route.startswith("/health")  # of these, a GET makes a model answer
    if route in FREE_ROUTES:
        return True
    family, _, rest = route.removeprefix("/v1/").partition("/")
    # A POST to an unknown path is free only if it belongs to the account's administration.
    return family in FREE_FAMILIES and (rest != "*" or family in ADMINISTRATION)


def not_counted(row: CallRecord) -> Price:
    """Makes the bill of a call that costs $0 because its usage is unknown or impossible.

    The bill has a note with the reason, and no items.
    """
    if is_usage_known(row):
        reason = "The stated counts are missing, or cannot be true."
    elif row.get("error_code") in {STUB_CODE, Outcome.INTERRUPTED}:
        reason = "What is left of this call's record does not say what it has used."
    else:
        reason = "Upstream may bill this call, or what it makes, but its answers do not say how much was used."
    return {"source": NOT_COUNTED, "model": "", "tier": "", "items": [], "note": reason}


def is_usage_known(row: CallRecord) -> bool:
    """Returns whether a call's usage is known: from upstream, from the request, or by an estimate."""
    return (
        row.get("usage_source") in (UsageSource.EXACT, UsageSource.ESTIMATED)
        or row.get("usage") is not None
        or any(row.get(name) is not None for name in (*TOKEN_COUNTS, "audio_seconds", "other_usage"))
        or bool(row.get("web_searches"))
    )


def has_counts(row: CallRecord) -> bool:
    """Returns whether a call's row states that any tokens, audio or hosted tools were used (more than zero)."""
    total = (row.get("usage") or {}).get("total_tokens")
    # If such a row has no cost, only a price is missing.
    return whole_count(total) > 0 or any(row.get(name) for name in (*TOKEN_COUNTS, "audio_seconds")) or uses_tools(row)


def uses_tools(row: CallRecord) -> bool:
    """Returns whether a call has used hosted tools that cost dollars in addition to the tokens."""
    return bool(row.get("web_searches")) or any(map((row.get("other_usage") or {}).get, TOOL_USES))


def why_unbilled(row: CallRecord) -> str:
    """Returns the reason why upstream does not bill a call, as a sentence; an empty text if it may bill the call."""
    route = row.get("route") or ""
    if route in _COUNTING_ROUTES or route.startswith("/v1/conversations"):
        return UNBILLED_ROUTE
    # Upstream may bill a call whose usage is known or estimated.
    if row.get("usage") is not None or row.get("usage_source") in (UsageSource.EXACT, UsageSource.ESTIMATED):
        return ""
    is_post = row.get("method") == "POST" or row.get("by_gateway") is True
    if (is_post or row.get("error_code")) and uses_tools(row):
        return ""  # tools have worked before the response failed; the rows that read a response again cost nothing
    if is_free(row.get("method") or "", route):
        return UNBILLED_ROUTE
    outcome = row.get("outcome")
    if outcome == Outcome.REJECTED:
        return "The gateway refused the call."
    if row.get("unbilled"):
        return "Upstream did not do the work."
    if outcome == Outcome.UPSTREAM_ERROR and row.get("error_code") not in {*_BROKEN_CODES, STUB_CODE}:
        return "Upstream answered with an error."
    if outcome == Outcome.CLIENT_CANCELLED and row.get("upstream_ms") is None and row.get("error_code") != STUB_CODE:
        return "The caller left before the call went upstream."
    return ""


def is_unfinished(row: CallRecord) -> bool:
    """Returns whether a call's response goes on in the background and has not stated its usage yet."""
    return row.get("response_status") in UNFINISHED_STATUSES and row.get("usage_source") == UsageSource.UNKNOWN
