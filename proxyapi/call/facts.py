"""The facts of one call: who makes it, what it asks for, what upstream has answered, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from django.conf import settings

from proxyapi.call.call_request import CallRequest
from proxyapi.call.uploads import FormUpload
from proxyapi.keys.keyring import Caller
from proxyapi.limits.output_limits import AddedLimit
from proxyapi.upstream.credentials import Credentials


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
    output_limit: AddedLimit | None = None  # which the gateway has added to the body that went upstream
    # What upstream has answered.
    upstream_request_id: str = ""
    response_type: str = ""
    response_body: bytes = b""  # of an answer that passes as it arrives, the beginning
    response_size: int = 0  # bytes that upstream has sent
    response_bytes: int = 0  # bytes that have gone to the caller
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

    def mark_upstream_ended(self) -> None:
        """Sets the time at which upstream's answer was complete."""
        self.upstream_ended_at = time.perf_counter()
