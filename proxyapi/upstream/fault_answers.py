"""Converts a fault that comes before the head of upstream's answer to the error that the caller gets, and logs it."""

from __future__ import annotations

import logging
import time

from proxyapi.exceptions import (
    CallerTimeout,
    OutOfFiles,
    ProxyError,
    RequestTimeout,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxyapi.upstream.faults import (
    Broken,
    ConnectTimeout,
    InvalidStatus,
    NoFileLeft,
    NotConnected,
    Silent,
    TransportFault,
)
from proxyapi.upstream.request import UpstreamRequest

logger = logging.getLogger(__name__)

UNREACHABLE_LOG_SECONDS = 60.0
MAX_LOGGED_REASONS = 100  # a minute; those of the code are fewer
NOT_BILLED = "Upstream was not reached, so the call was not billed."
MAYBE_BILLED = "The call may have reached upstream and may have been billed."


class UnreachableLog:
    """Log of the reasons why upstream gives no answer; each kind of reason is logged at most once a minute."""

    def __init__(self) -> None:
        # Kinds are told apart without words that upstream has chosen, so upstream can fill neither the log nor the
        # memory.
        self._logged_at: dict[str, float] = {}  # in the order of time, within the last minute

    def add(self, fault: NotConnected | Broken) -> None:
        """Logs the fault that keeps upstream from answering; each kind of fault at most once a minute."""
        what = "no connection to upstream" if isinstance(fault, NotConnected) else "no usable answer from upstream"
        words = f"{what}: {fault}"
        systems_words = str(fault.__cause__ or "")
        details = "" if systems_words in words else f" ({systems_words})"
        self.add_reason(f"{words}{details}", f"{what}: {fault.kind}")

    def add_reason(self, words: str, kind: str = "") -> None:
        """Logs the text `words`, which says why upstream gives no answer; each `kind` at most once a minute.

        Without a `kind`, the text itself is the kind. At most `MAX_LOGGED_REASONS` texts are logged a minute.
        """
        kind = kind or words
        now = time.monotonic()
        for known, logged_at in list(self._logged_at.items()):
            if now - logged_at < UNREACHABLE_LOG_SECONDS:
                break
            del self._logged_at[known]
        if kind not in self._logged_at and len(self._logged_at) < MAX_LOGGED_REASONS:
            self._logged_at[kind] = now
            logger.warning("%s", words)


unreachable_log = UnreachableLog()


def error_of(fault: TransportFault, request: UpstreamRequest) -> ProxyError:
    """Converts a fault that came before the head of upstream's answer to the error that the caller gets.

    The message of an error of upstream says whether the call may be billed. Faults of the connection, and answers that
    break HTTP's rules, are also logged.
    """
    match fault:
        case ConnectTimeout(is_deadline=True) if request.is_callers_deadline:  # too short for any upstream, perhaps
            return CallerTimeout(f"No connection to upstream in this call's timeout. {NOT_BILLED}", is_unbilled=True)
        case ConnectTimeout():
            unreachable_log.add(fault)
            words = f"No connection to upstream in time: {fault.reason}. {NOT_BILLED}"
            return UpstreamTimeout(words, is_unbilled=True)
        case NoFileLeft():
            unreachable_log.add(fault)
            return OutOfFiles()
        case NotConnected():
            unreachable_log.add(fault)
            words = f"No connection to upstream: {fault.reason}. {NOT_BILLED}"
            return UpstreamUnreachable(words, is_unbilled=True)
        case InvalidStatus():
            unreachable_log.add(fault)
            return UpstreamUnreachable(f"Upstream broke HTTP's rules: {fault}. {MAYBE_BILLED}")
        case Broken():
            unreachable_log.add(fault)
            return UpstreamUnreachable(f"The connection to upstream broke before an answer: {fault}. {MAYBE_BILLED}")
        case Silent():
            return UpstreamTimeout(
                f"Upstream did not begin to answer within {fault.seconds:g} seconds ({fault.setting}). {MAYBE_BILLED}"
            )
        # the caller was still sending the body
        case _ if request.upload is not None and not request.upload.complete:
            return RequestTimeout()
        case _:
            return request.timeout_error(f"Upstream did not answer in time. {MAYBE_BILLED}")
