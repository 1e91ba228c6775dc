"""Knows whether upstream may be asked for the usage of streamed chats: by a setting, and by upstream's refusals."""

from __future__ import annotations

import logging

from django.conf import settings

logger = logging.getLogger(__name__)

REFUSALS = {400, 422}
NAMES = (b"stream_options", b"include_usage")


class UsageRequests:
    """Decides whether `stream_options.include_usage` is added to the calls of this process; there is one upstream."""

    def __init__(self) -> None:
        self.refused = False

    @property
    def are_made(self) -> bool:
        """True while the field is added to streamed chats."""
        return bool(settings.INJECT_STREAM_USAGE) and not self.refused

    @property
    def state(self) -> str:
        """The state in words, for `/readyz`."""
        if self.refused:
            return "refused by upstream"
        return "on" if settings.INJECT_STREAM_USAGE else "off"

    def may_be_refusal(self, status: int, body: bytes) -> bool:
        """Returns whether an error of upstream's may be about the field that was added: it names it."""
        return status in REFUSALS and any(name in body for name in NAMES)

    def give_up(self) -> None:
        """Stops adding `stream_options`: upstream has refused a body with it, and accepted the same without."""
        if not self.refused:
            self.refused = True
            logger.warning(
                "upstream refuses stream_options.include_usage: it is left out until the next start, and the usage of"
                " streamed chats is estimated where upstream does not state it; INJECT_STREAM_USAGE=false says so for"
                " good"
            )


usage_requests = UsageRequests()
