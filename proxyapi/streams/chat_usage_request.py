"""Asks upstream for the usage of a streamed chat if the caller has not asked for it, since the ledger needs it.

Upstream states the usage of a streamed chat only on request (OpenAI's reference, `stream_options`), so `ask_for_usage`
adds `stream_options.include_usage` to the body. `usage_requests` decides whether to do so: a setting may forbid it, and
upstream may have refused it. `proxyapi.streams.chat_usage_removal` then removes the usage from the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.conf import settings

from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.json_members import Member, encode, read_members
from proxyapi.bodies.large_bodies import LARGE_BYTES

logger = logging.getLogger(__name__)

ASKED = '"include_usage":true'
REFUSALS = {400, 422}
NAMES = (b"stream_options", b"include_usage")
# What a body must not have if a refusal of its call is to tell something of upstream: the names in NAMES, in any
# spelling, since upstream's error may repeat them; and what upstream has to fetch, since that may fail once only.
UNPROVEN = (*NAMES, b"\\u", b"\\/", b"://", b"file_id")
MOST_MODELS = 1000
LONGEST_MODEL = 200  # characters
MOST_SHOWN = 100


class UsageRequests:
    """The rule by which this process asks upstream for the usage of streamed chats whose callers have not asked for it.

    The gateway asks by adding `stream_options.include_usage` to the request, except for models for which upstream has
    refused this field (`refusing`), or if the setting `INJECT_STREAM_USAGE` is off.
    """

    def __init__(self) -> None:
        # By model, since a gateway before several vendors is one upstream, and not all of them refuse the field.
        self.refusing: set[str] = set()

    def are_made_for(self, model: str) -> bool:
        """Returns whether the gateway asks upstream for the usage of a model's streams whose callers have not asked."""
        return bool(settings.INJECT_STREAM_USAGE) and model not in self.refusing

    @property
    def state(self) -> str:
        """Whether the gateway asks upstream for usage, as text for `/readyz`: "on", "off" or "refused by upstream".

        The last one means that upstream has refused the field `stream_options.include_usage` for at least one model.
        """
        if self.refusing:
            return "refused by upstream"
        return "on" if settings.INJECT_STREAM_USAGE else "off"

    def may_be_refusal(self, status: int, body: bytes) -> bool:
        """Returns whether upstream's error may be caused by the field `stream_options.include_usage`.

        True if the status is 400 or 422 and the error's body contains `stream_options` or `include_usage`.
        """
        return status in REFUSALS and any(name in body for name in NAMES)

    def give_up(self, request: JSONBody) -> None:
        """Stops adding `stream_options.include_usage` to streamed chats of the request's model, and logs a warning.

        This holds until the process ends. Call this when upstream has refused `request` with this field, and accepted
        the same request without it. Nothing happens if the refusal may have had another reason (`_proves_refusal`), if
        `MOST_MODELS` models have been given up already, or if the model's name has more than `LONGEST_MODEL`
        characters: callers make up names, which some upstreams take.
        """
        model = request.model
        is_remembered = model in self.refusing or len(self.refusing) >= MOST_MODELS
        if is_remembered or len(model) > LONGEST_MODEL or not _proves_refusal(request):
            return
        self.refusing.add(model)
        logger.warning(
            "upstream refuses stream_options.include_usage for the model %r: it is left out until the next start, and"
            " the usage of its streamed chats is estimated where upstream does not state it; INJECT_STREAM_USAGE=false"
            " says so for good",
            model[:MOST_SHOWN],
        )


def _proves_refusal(request: JSONBody) -> bool:
    """Returns whether upstream must have refused `request` because of the field by which the gateway asks for usage.

    The caller of this function knows that upstream has accepted the request without the field. This proves nothing if
    the body is large, does not surely ask for a stream, or has a part that upstream may refuse one time and accept
    another (`UNPROVEN`).
    """
    # A query string may ask for a stream as well, and upstream may ignore that: it refuses the field without a stream.
    if request.size > LARGE_BYTES or not request.stream or len(request.values("stream")) > 1:
        return False
    raw = request.raw.lower()
    return not any(part in raw for part in UNPROVEN)


usage_requests = UsageRequests()


def ask_for_usage(body: JSONBody) -> JSONBody | None:
    """Returns a copy of a streamed chat's body that asks upstream to report usage (`stream_options.include_usage`).

    Returns None if the caller asks for usage already, or if `stream_options` is invalid or has too many members.
    """
    asked = _ask_in(body.text, body.members)
    # An invalid value passes, and upstream reports it.
    return None if asked is None else body.with_raw(encode(asked))


def _ask_in(text: str, members: Sequence[Member]) -> str | None:
    """Returns the JSON text of a chat's body with `stream_options.include_usage` set to true.

    `text` is the body as the caller sent it, and `members` are its parsed members. Returns None if the caller asks for
    usage already, or if `stream_options` is invalid or has too many members.
    """
    options = [member for member in members if member.name == "stream_options"]
    if not options:
        at = text.index("{") + 1
        return f'{text[:at]}"stream_options":{{{ASKED}}}{"," if members else ""}{text[at:]}'
    last = options[-1]
    if last.value is None:
        return f"{text[: last.value_start]}{{{ASKED}}}{text[last.end :]}"
    if not isinstance(last.value, dict):
        return None
    wanted = last.value.get("include_usage")
    if wanted is not None and wanted is not False:
        return None
    try:
        inner = read_members(text, last.value_start)
    except ValueError:  # too many members
        return None
    given = [member for member in inner if member.name == "include_usage"]
    if given:
        return f"{text[: given[-1].value_start]}true{text[given[-1].end :]}"
    at = last.value_start + 1
    return f"{text[:at]}{ASKED}{',' if inner else ''}{text[at:]}"
