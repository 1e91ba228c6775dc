"""The record of a call: the facts that the journal stores, and from which the call's row in the ledger is made.

`CallRecord` is the one type of a call's data from its end (`proxyapi.call.journal_rows`) through journal, delivery and
pricing to the SQL. It is a typed dictionary, because it is written and read as JSON for every call, and needs no
conversion. A record leaves out unknown values; a row in the table has a default or null for them.

The module does not use Django, since the journal imports it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict
from uuid import UUID

# The version of the records that this code writes. Raise it when the meaning of a field changes, or when older code
# must not read the records; a field that is only added needs no new version. Records of version 1 have no `version`.
RECORD_VERSION = 2
# The error code of a stub (`usage.journal_shipping.stub_rows`): a row without the texts that the database refused, and
# with a message of the gateway's own.
STUB_CODE = "dead_letter"

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
    """The numbers of tokens, seconds of audio and web searches that a call has used, as upstream states them.

    A number is None or absent if upstream did not state it. A stated 0 is stored as 0.
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
    """One line of a call's bill: a unit such as input tokens, the number of these units, and their cost in dollars."""

    unit: str
    count: float
    dollars: str
    # The rest is absent where `Price` says it of all items.
    rate: NotRequired[str]  # dollars of the unit: per million tokens or characters, per minute, or each
    model: NotRequired[str]  # another model than the call's, such as that of the image generation tool
    source: NotRequired[str]  # of the rate
    kind: NotRequired[str]  # `usage.models.CostKind`; absent: exact


class Price(TypedDict, total=False):
    """The price of one call and the items of its bill, as JSON in the call's row (`usage.money.billing`).

    Dollars are decimal text.
    """

    source: str
    model: str
    tier: str
    per_million: dict[str, str]  # dollars per million tokens, by unit
    per_minute: str
    per_web_search: str
    items: list[PricedItem]
    kind: str  # `provisional` if the price is that of the model's family, or otherwise assumed; absent: it is published
    note: str  # what was assumed, or why the call costs nothing


class OtherUsage(TypedDict, total=False):
    """The use of a call that upstream bills in addition to the usage object: images, searches, containers and the like.

    The values are read from the answer and the request. A field whose value would be zero is absent.
    """

    image_tokens: dict[str, object]  # of the image generation tool: a usage object
    image_tokens_estimated: bool  # upstream has not stated them
    image_model: str  # of the image generation tool; absent: upstream's default
    svg: list[dict[str, object]]  # usage objects of the models that have written SVG pictures, each with its `model`
    search_tool: str  # the type of the tool that has searched the web, such as `web_search_preview`
    file_searches: int
    containers: list[str]  # the memory of each container of the code interpreter and of the hosted shell, as `1g`
    completion_window: str  # of a background response, as the request asked for: `2h` or `8h`
    asked_tier: str  # the service tier that the request named, for an answer that does not state one
    characters: int  # of the text to speak
    pictures: int  # that the request asked the Images API for; some models are billed by them
    picture_format: str  # their quality and size, as `standard 1024x1024`


class SupposedUsage(Counts, total=False):
    """The estimated usage of a call; the call's cost is computed from it if upstream states no usage."""

    other_usage: OtherUsage
    # These are no columns.
    answers: int  # answers or pictures that upstream makes at the same time; absent: one
    is_of_named_account: bool  # the call names a project or an organization: only there, upstream may show its response


class LeaseShare(TypedDict):
    """The dollars that one call takes from a lease, which is a part of a budget that one worker has reserved.

    * `id`: the id of the lease.
    * `dollars`: the dollars as decimal text: while the call goes on, those reserved for it; afterwards, those it has
      used.
    """

    id: str
    dollars: str


class CallRecord(Counts, total=False):
    """All known facts about one call, as the journal stores them. A field whose value is not known is absent.

    The fields are columns of the table of calls, except where a comment says otherwise.
    """

    # For the journal only; these are no columns.
    version: int  # `RECORD_VERSION` of the code that wrote it; absent in records of version 1
    kind: Literal["begin", "end"]

    request_id: str  # the gateway's own id, a UUIDv7
    incoming_request_id: str  # the caller's id of the call; with `by_gateway`, the id of the call that is polled for
    upstream_request_id: str
    response_id: str  # upstream's id of the object that the call created or read
    key_name: str
    method: str
    route: str
    request_model: str  # the model that the call asked for
    response_model: str  # the model that answered, as upstream states it
    stream: bool
    output_limit: int  # output tokens of each answer, if the gateway has added a limit to the body; else absent
    service_tier: str  # as upstream states it
    status: int | None  # the HTTP status that the caller got; None if the caller left before
    outcome: str  # `usage.models.Outcome`
    error_type: str
    error_code: str
    error_message: str
    error_param: str  # the parameter of the request that was refused; absent if the error names none

    started_at: datetime | str  # UTC; text in ISO 8601 once it has been in the journal
    duration_ms: float  # from the arrival of the request's head until this record is written
    time_to_first_chunk_ms: float | None
    upstream_ms: float | None  # from sending the request upstream to the end of upstream's answer
    overhead_ms: float | None  # the time that the gateway itself has taken
    request_bytes: int
    response_bytes: int  # sent to the caller; with `by_gateway`, received from upstream
    client_address: str | None
    user_agent: str
    # What the call was for. An empty text, as a field that is absent, means that nothing is known of it.
    team: str  # of the key, when the call was made
    owner: str  # of the key, likewise: a person or a team
    end_user: str  # on whose behalf the caller says that it has sent the call
    session: str  # the calls of one conversation have the same
    tags: list[str]

    usage: dict[str, object] | None  # upstream's usage object as it came, redacted
    usage_source: str  # `usage.models.UsageSource`
    other_usage: OtherUsage | None
    cost: str | None  # dollars, as decimal text; None: the call needs a price, or its response has not ended
    cost_kind: str  # `usage.models.CostKind`; empty without a cost
    price: Price | None
    by_gateway: bool  # no call, but a request of the gateway's own for a background response
    unknown_model: bool  # the sums count the row under the common name of unknown models
    other_code: bool  # the sums count the row under the common name of other error codes
    error_group: str  # the group of the error's message, under which the sums count the row

    # The logged bodies: without secrets, binary data replaced, at most LOG_BODY_BYTES each. They have their own table.
    request_body: str
    response_body: str

    # For the code that writes the row; these are no columns.
    response_status: str | None  # upstream's status of the response, which has not ended if `queued` or `in_progress`
    is_callers_timeout: bool  # a time limit that the caller has set has ended the call; absent: none has
    unbilled: bool  # whether the call has ended in a way that upstream does not bill (`usage.money.unbilled`)
    pollable: bool  # whether the gateway may ask upstream about the response later
    answers: int  # of an estimate (`SupposedUsage`)
    is_of_named_account: bool  # likewise
    supposed: SupposedUsage  # what the call has used if nobody ever learns it; absent where nothing is supposed
    objects: list[str]  # upstream's ids of objects that the call has created
    objects_last: bool  # whether upstream stores these objects until they are deleted
    previous_response_id: str  # of the response that the call continues; only of a call that states no session
    lease: LeaseShare  # of a call of a key with a budget; absent if there is nothing to take off a lease
    team_lease: LeaseShare  # the same, of the budget of the key's team
    fault: str  # the error with which the database has refused the row; only in dead letters


class SummedRow(Counts, total=False):
    """The fields of a call's row from which the tables of sums are computed.

    `usage.sums.sum_tables.SUMMED_NAMES` has the names of these columns.
    """

    request_id: UUID
    started_at: datetime
    key_name: str
    team: str
    request_model: str
    response_model: str
    route: str
    outcome: str
    status: int | None
    error_code: str
    by_gateway: bool
    unknown_model: bool
    other_code: bool
    error_group: str
    owner: str
    end_user: str
    tags: list[str]
    request_bytes: int
    response_bytes: int
    cost: Decimal | None  # dollars
    cost_kind: str
    needs_price: bool  # `usage.models.NEEDS_PRICE`
    duration_ms: float
    upstream_ms: float | None
    overhead_ms: float | None


# The model that answered, else the one that was asked for: `called_model` in SQL, for a row in the table.
# `usage.models.CALLED_MODEL` is the same as an expression of Django's, for the index.
CALLED_MODEL_SQL = "COALESCE(NULLIF(response_model, ''), request_model)"


def called_model(row: CallRecord | SummedRow) -> str:
    """Returns the name of the model that answered a call or, if unknown, of the model that the request named.

    Returns an empty text if neither is known.
    """
    return row.get("response_model") or row.get("request_model") or ""


def is_readable_version(version: object) -> bool:
    """Returns whether this code can read journal records with the given value of the field `version`.

    None stands for the first version: its records had no such field.
    """
    return version is None or (type(version) is int and 0 < version <= RECORD_VERSION)
