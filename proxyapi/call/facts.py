"""The facts of one call: who makes it, what it asks for, what upstream has answered, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from django.conf import settings

from proxyapi.call.call_request import CallRequest
from proxyapi.call.uploads import FormUpload
from proxyapi.keys.keyring import Caller
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.request import UpstreamRequest
from usage.call_record import OtherUsage
from usage.money.billing import MaxUsage


def configured_secrets() -> tuple[str, ...]:
    """Returns the secrets of the settings. They must be in no row, and in no error that a caller sees."""
    return tuple(filter(None, (settings.SECURITY_KEY, settings.ACCESS_TOKEN, settings.OPENAI_API_KEY)))


@dataclass(slots=True)
class CallFacts:
    """The facts of one call, each set when it becomes known. Times are `time.perf_counter()` seconds."""

    request: CallRequest
    log_bodies: str  # `all`, `errors` or `none`: which bodies the ledger keeps
    # Who makes the call. Without a key's name it has no row.
    key_name: str = ""
    tags: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default_factory=configured_secrets)  # redacted in row and errors
    is_pollable: bool = (
        False  # whether the gateway may ask upstream about the response later: with its own account only
    )
    # What it asks for.
    model: str = ""
    stream: bool = False
    form: FormUpload | None = None  # a body that goes upstream while it arrives
    asked: UpstreamRequest | None = None  # what an estimate of its usage is made from
    most_usage: MaxUsage | None = None  # what its reservation supposes; only of a key with a budget
    asked_usage: OtherUsage | None = None  # what upstream bills by and only the request says
    # What upstream has answered.
    upstream_request_id: str = ""
    response_type: str = ""
    was_refused: bool = False  # upstream's status is an error
    response_body: bytes = b""  # of an answer that passes as it arrives, the beginning
    response_size: int = 0  # bytes that upstream has sent
    response_is_whole: bool = False  # all of the answer has come, and was read as a whole
    response_bytes: int = 0  # bytes that have gone to the caller
    is_unbilled: bool = False  # the call has ended with an error that upstream does not bill
    early_status: int | None = None  # of a head that was sent before upstream had answered
    sent_upstream_at: float | None = None
    upstream_ended_at: float | None = None
    first_chunk_at: float | None = None

    @classmethod
    def of(cls, request: CallRequest) -> CallFacts:
        """Builds the facts of a call from its request: those that are known before its key is checked."""
        return cls(request, settings.LOG_BODIES)

    def identify(self, caller: Caller) -> None:
        """Sets the key that makes the call: the key's name and tags, and which bodies the ledger stores."""
        self.key_name, self.tags = caller.name, caller.tags
        self.log_bodies = settings.LOG_BODIES if caller.log_bodies == "inherit" else caller.log_bodies
        if caller.upstream_key:
            self.secrets = (*self.secrets, caller.upstream_key)

    def use_account(self, credentials: Credentials) -> None:
        """Sets the upstream account that pays for the call. Its key is a secret of the call."""
        if credentials.api_key not in self.secrets:
            self.secrets = (*self.secrets, credentials.api_key)
        self.is_pollable = credentials.api_key == settings.OPENAI_API_KEY

    def keep_body(self, body: bytes) -> None:
        """Keeps the body of an answer that was read whole."""
        self.response_body, self.response_size = body, len(body)
        self.response_is_whole = True

    def keep_beginning(self, chunk: bytes) -> None:
        """Keeps the next bytes of an answer that is not parsed, as long as the ledger keeps so much of a body."""
        self.response_size += len(chunk)
        if len(self.response_body) <= settings.LOG_BODY_BYTES:
            self.response_body += chunk

    def count_sent(self, size: int) -> None:
        """Counts bytes of the answer that are on their way to the caller."""
        if self.first_chunk_at is None:
            self.first_chunk_at = time.perf_counter()
        self.response_bytes += size

    @property
    def upstream_seconds(self) -> float:
        """The time that upstream has had for the call, until its answer was complete or until now."""
        if self.sent_upstream_at is None:
            return 0.0
        return (self.upstream_ended_at or time.perf_counter()) - self.sent_upstream_at

    def mark_upstream_ended(self) -> None:
        """Sets the time at which upstream's answer was complete."""
        self.upstream_ended_at = time.perf_counter()
