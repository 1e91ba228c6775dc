"""The facts of one call: its caller, its request, upstream's answer, and the times of all of these."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from proxyapi.bodies.billing_parameters import Fields
from proxyapi.bodies.labels import LABEL_FIELDS, NO_LABELS, Labels, read_labels
from proxyapi.cached_settings import call_settings
from proxyapi.call.call_request import CallRequest
from proxyapi.call.uploads import FormUpload
from proxyapi.keys.callers import Caller
from proxyapi.keys.credentials import configured_credentials
from proxyapi.limits.output_limits import AddedLimit
from proxyapi.limits.usage_estimates import with_one_picture_model
from proxyapi.upstream.request import UpstreamRequest
from usage.call_record import OtherUsage, SupposedUsage
from usage.money.billing import MaxUsage

NO_FIELDS: Fields = {}
# Routes to which callers send passwords and tokens, by names that mean something else in other bodies.
ROUTES_OF_SECRETS = "/v1/vaults"


@dataclass(slots=True)
class CallFacts:
    """The facts of one call for its ledger row; each field is set as soon as its value is known.

    Times are `time.perf_counter()` seconds.
    """

    request: CallRequest
    log_bodies: str  # `all`, `errors` or `none`: which bodies the ledger keeps
    secrets: tuple[str, ...]  # to be removed from the row and from errors
    # Who makes the call. A call without a key's name gets no row in the ledger.
    key_name: str = ""
    team: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    labels: Labels = NO_LABELS  # what the request says that the call is for
    # Whether the gateway may ask upstream about the response later, which it can do with the configured key only.
    is_pollable: bool = False
    is_of_named_account: bool = False  # the request names another project or organization than the settings
    # What the call asks for.
    model: str = ""
    stream: bool = False
    form: FormUpload | None = None  # the request's body, if it is a form that goes upstream while it arrives
    asked: UpstreamRequest | None = None  # what an estimate of its usage is made from
    most_usage: MaxUsage | None = None  # what its reservation supposes; only of a key with a budget
    output_limit: AddedLimit | None = None  # which the gateway has added to the body that went upstream
    asked_usage: OtherUsage | None = None  # what upstream bills by and only the request says
    tool_use: SupposedUsage = field(default_factory=SupposedUsage)  # by hosted tools, at most; of a key without budget
    # What upstream has answered.
    upstream_request_id: str = ""
    response_type: str = ""
    was_refused: bool = False  # upstream's status is an error
    response_body: bytes = b""  # only the beginning, of an answer that is passed on as it arrives
    response_size: int = 0  # bytes that upstream has sent
    response_is_whole: bool = False  # all of the answer has come, and was read as a whole
    response_bytes: int = 0  # bytes that have gone to the caller
    is_unbilled: bool = False  # the call has ended with an error that upstream does not bill
    is_callers_timeout: bool = False  # a time limit that the caller has set has ended the call
    early_status: int | None = None  # the status in the head, if that was sent before upstream had answered
    sent_upstream_at: float | None = None
    upstream_ended_at: float | None = None
    first_chunk_at: float | None = None

    @classmethod
    def of(cls, request: CallRequest) -> CallFacts:
        """Creates the facts of a call from its request, before the request's key is checked."""
        given = call_settings()
        return cls(request, given.LOG_BODIES, given.secrets)

    def identify(self, caller: Caller) -> None:
        """Stores the caller's key name, team, owner and tags, and whether the call's bodies are logged.

        Also stores the labels (end user, session, tags) in the request's headers, and adds the caller's upstream key to
        the secrets that are removed from logged texts. The bodies of `ROUTES_OF_SECRETS` are never logged.
        """
        self.key_name, self.team, self.owner, self.tags = caller.name, caller.team, caller.owner, caller.tags
        self.log_bodies = call_settings().LOG_BODIES if caller.log_bodies == "inherit" else caller.log_bodies
        if self.request.route.startswith(ROUTES_OF_SECRETS):
            self.log_bodies = "none"
        if caller.upstream_key:
            self.secrets = (*self.secrets, caller.upstream_key)
        self._read_labels(NO_FIELDS)  # of the headers; those in a body are read if the call gets so far

    def read_body_labels(self, fields: Fields) -> None:
        """Stores the labels (end user, session, tags) that the request's body states.

        `fields` maps the names of the body's members to their values. Call this after `identify`: an end user or a
        session in a header has precedence over that in the body. Tags are taken from both.
        """
        if not LABEL_FIELDS.isdisjoint(fields):  # as of few calls
            self._read_labels(fields)

    def _read_labels(self, fields: Fields) -> None:
        self.labels = read_labels(self.request.META, fields, call_settings().METADATA_TAGS)

    def suppose(self, most: MaxUsage) -> None:
        """Stores `most`, the upper bound of the call's usage, for an estimate in case that upstream states no usage.

        If `most` has several image models, only the most expensive one is stored.
        """
        # If upstream never states the usage, it is estimated by these limits.
        self.most_usage = with_one_picture_model(most, self.secrets)

    def use_account(self, request: UpstreamRequest) -> None:
        """Adds the API key that pays for the call to the secrets to redact, and stores whether the call can be polled.

        A background response of the call can be polled later only if this is the API key in the settings.
        """
        # Secrets are removed from the call's ledger row and from errors.
        api_key = request.credentials.api_key
        if api_key not in self.secrets:
            self.secrets = (*self.secrets, api_key)
        # The gateway polls with the configured key.
        self.is_pollable = api_key == call_settings().OPENAI_API_KEY
        self.is_of_named_account = self.is_pollable and request.account != configured_credentials()

    def keep_body(self, body: bytes) -> None:
        """Stores the body of upstream's answer, which has arrived whole, and its size in bytes."""
        self.response_body, self.response_size = body, len(body)
        self.response_is_whole = True

    def keep_beginning(self, chunk: bytes) -> None:
        """Adds the next chunk's size to `response_size`, and appends the chunk to `response_body` unless that is full.

        `response_body` is full once it has more than `LOG_BODY_BYTES` bytes.
        """
        self.response_size += len(chunk)
        # The ledger keeps that many bytes of a body.
        if len(self.response_body) <= call_settings().LOG_BODY_BYTES:
            self.response_body += chunk

    def count_sent(self, size: int) -> None:
        """Counts bytes of the answer that are sent to the caller, and records the time of the first ones."""
        if self.first_chunk_at is None:
            self.first_chunk_at = time.perf_counter()
        self.response_bytes += size

    @property
    def upstream_seconds(self) -> float:
        """The seconds from sending the call upstream until its answer ended or, if that has not ended, until now.

        0 if the call was not sent upstream.
        """
        if self.sent_upstream_at is None:
            return 0.0
        return (self.upstream_ended_at or time.perf_counter()) - self.sent_upstream_at

    def mark_upstream_ended(self) -> None:
        """Records that upstream's answer has ended now."""
        self.upstream_ended_at = time.perf_counter()
