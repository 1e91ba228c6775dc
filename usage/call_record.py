"""The record of a call: what the journal keeps of it, and what becomes its row in the ledger.

`CallRecord` is the one type of a call's data from its end (`proxyapi.call.record`) through journal, delivery and
pricing to the SQL. It is a typed dictionary, because it is written and read as JSON for every call: a plain dictionary
costs nothing beside that. A record leaves out what is not known; a row in the table has a default or null there.

No Django here: the journal imports this module, too.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal, TypedDict
from uuid import UUID

# The version of the records that this code writes. Raise it when the meaning of a field changes, or when code of before
# must not read the records; a field that is only added needs no new version. Version 1 had no number in its records.
RECORD_VERSION = 2

TokenCount = Literal[
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
]
CountName = Literal[TokenCount, "audio_seconds", "web_searches"]
TOKEN_COUNTS: tuple[TokenCount, ...] = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
COUNTS: tuple[CountName, ...] = (*TOKEN_COUNTS, "audio_seconds", "web_searches")


class Counts(TypedDict, total=False):
    """The tokens, seconds and searches that a call has used, as upstream states them.

    A count is None or absent if upstream did not state it; a stated 0 is kept.
    """

    input_tokens: int | None  # cached and audio ones included
    cached_tokens: int | None  # of the input tokens: read from upstream's cache
    cache_write_tokens: int | None  # of the input tokens: written to upstream's cache
    output_tokens: int | None  # reasoning and audio ones included
    reasoning_tokens: int | None  # of the output tokens
    audio_input_tokens: int | None  # of the input tokens
    audio_output_tokens: int | None  # of the output tokens
    audio_seconds: float | None  # of an audio file that is billed by its length
    web_searches: int | None  # billed searches


class PricedItem(TypedDict):
    """One line of a call's bill: a unit, such as input tokens, how much of it was used, and the dollars."""

    unit: str
    count: float
    dollars: str


class Price(TypedDict, total=False):
    """The price from which a call's cost was computed (`usage.money.billing`). Dollars are decimal text."""

    source: str
    model: str
    tier: str
    per_million: dict[str, str]  # dollars per million tokens, by unit
    per_minute: str
    per_web_search: str
    items: list[PricedItem]


class CallRecord(Counts, total=False):
    """One call as the journal stores it. The fields are columns of `Request`, except where a comment says otherwise."""

    # Of the journal: no columns.
    version: int  # `RECORD_VERSION` of the code that wrote it; absent in records of version 1
    kind: Literal["begin", "end"]

    request_id: str  # the gateway's own id, a UUIDv7
    incoming_request_id: str  # the caller's id of the call; of a look, the id of the call that made the response
    upstream_request_id: str
    response_id: str  # upstream's id of what the call made or looked at
    key_name: str
    method: str
    route: str
    request_model: str  # asked for
    response_model: str  # answered
    stream: bool
    output_limit: int  # output tokens of each answer, if the gateway has added a limit to the body; else absent
    service_tier: str  # answered
    status: int | None  # of HTTP, as the caller saw it; None: it had left
    outcome: str  # `usage.models.Outcome`
    error_type: str
    error_code: str
    error_message: str

    started_at: datetime | str  # UTC; text in ISO 8601 once it has been in the journal
    duration_ms: float  # from the arrival of the head to the row
    time_to_first_chunk_ms: float | None
    upstream_ms: float | None  # from asking upstream to the end of its answer
    overhead_ms: float | None  # what the gateway has added to upstream's time
    request_bytes: int
    response_bytes: int  # sent to the caller; of a look, received
    client_address: str | None
    user_agent: str
    tags: list[str]

    usage: dict[str, object] | None  # upstream's usage object as it came, redacted
    usage_source: str  # `usage.models.UsageSource`
    cost: str | None  # dollars, as decimal text; None: no honest price is known
    price: Price | None
    by_gateway: bool  # a look of the gateway's own at a background response
    unknown_model: bool  # summed up under the name for unknown models
    other_code: bool  # summed up under the name for other error codes

    # What is kept of the bodies: redacted, binary data replaced, at most LOG_BODY_BYTES each. In a table of their own.
    request_body: str
    response_body: str

    # For the writing of the row: no columns.
    response_status: str | None  # upstream's status of the response; `queued` and `in_progress` are not its last
    pollable: bool  # whether the gateway may ask upstream about the response later
    objects: list[str]  # upstream's ids of objects that the call has made
    objects_last: bool  # whether upstream keeps these until they are deleted
    fault: str  # of a dead letter: the database's error


class SummedRow(Counts, total=False):
    """The columns of a call's row from which the sums are computed, as in `usage.sums.rollups.ROW_COLUMNS`."""

    request_id: UUID
    started_at: datetime
    key_name: str
    request_model: str
    response_model: str
    route: str
    outcome: str
    status: int | None
    error_code: str
    by_gateway: bool
    unknown_model: bool
    other_code: bool
    request_bytes: int
    response_bytes: int
    cost: Decimal | None  # dollars
    duration_ms: float
    upstream_ms: float | None
    overhead_ms: float | None


# The model that answered, else the one that was asked for. The same for a row in the table; `usage.models.CALLED_MODEL`
# is the same as an expression of Django's, for the index.
CALLED_MODEL_SQL = "COALESCE(NULLIF(response_model, ''), request_model)"


def called_model(row: CallRecord | SummedRow) -> str:
    """Returns the name of the model that answered a call, else of the one that was asked for; empty without one."""
    return row.get("response_model") or row.get("request_model") or ""


def is_readable_version(version: object) -> bool:
    """Returns whether this code can read journal records of a version; None is the first, which had no number."""
    return version is None or (type(version) is int and 0 < version <= RECORD_VERSION)
