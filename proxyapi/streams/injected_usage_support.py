"""Knows whether upstream may be asked for the usage of streamed chats: by a setting, and by upstream's refusals."""

from __future__ import annotations

import logging

from django.conf import settings

logger = logging.getLogger(__name__)

REFUSALS = {400, 422}
NAMES = (b"stream_options", b"include_usage")


class UsageRequests:
    """Decides whether the gateway adds `stream_options.include_usage` to streamed chats, to learn their usage.

    One decision is enough for all calls of a process, because they have the same upstream.
    """

    def __init__(self) -> None:
        self.refused = False

    @property
    def are_made(self) -> bool:
        """True while the gateway adds `stream_options.include_usage` to streamed chats."""
        return bool(settings.INJECT_STREAM_USAGE) and not self.refused

    @property
    def state(self) -> str:
        """Says for `/readyz` whether upstream is asked for the usage of streamed chats.

        One of "on", "off" and "refused by upstream".
        """
        if self.refused:
            return "refused by upstream"
        return "on" if settings.INJECT_STREAM_USAGE else "off"

    def may_be_refusal(self, status: int, body: bytes) -> bool:
        """Returns whether upstream's error may be a refusal of `stream_options.include_usage`.

        It may be one if the status is in `REFUSALS` and the body names the field.
        """
        return status in REFUSALS and any(name in body for name in NAMES)

    def give_up(self) -> None:
        """Stops adding `stream_options.include_usage` to streamed chats until the next start, and logs that.

        The reason is that upstream has refused a body with this field, and accepted the same body without it.
        """
        if not self.refused:
            self.refused = True
            logger.warning(
                "upstream refuses stream_options.include_usage: it is left out until the next start, and the usage of"
                " streamed chats is estimated where upstream does not state it; INJECT_STREAM_USAGE=false says so for"
                " good"
            )


usage_requests = UsageRequests()
