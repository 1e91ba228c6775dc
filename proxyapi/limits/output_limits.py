"""Reads the limit of output tokens that a call's body states, and adds one to the body if the gateway needs it.

The gateway adds a limit to a body that states none, if the key has a cap on output tokens or if the budget cannot pay
for the longest answer of the model. A body that states a limit is never changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

from proxyapi.bodies.form_reader import field_path
from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.json_members import Member, decode, encode, read_object
from proxyapi.exceptions import OutputLimitExceeded
from proxyapi.routes import Route

T = TypeVar("T")

# The members that limit the output, by the route's name; the gateway adds the first. The others' names are those of
# `openai.types` (SDK 3.57): `chat.completion_create_params`, `responses.response_create_params`,
# `completion_create_params`.
LIMIT_MEMBERS = {
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/responses": ("max_output_tokens",),
    "/v1/completions": ("max_tokens",),
}
OUTPUT_LIMIT_HEADER = "x-proxy-output-limit"  # of an answer: the tokens of the limit that the gateway has added
# A legacy completion that states no limit has 16 tokens (community.openai.com/t/192968, read 2026-11-28). More would
# make its answer longer than the caller has asked for.
DEFAULT_LIMITS = {"/v1/completions": 16}
# A request may state any number. These are more than any call can have, and few enough for the ledger's columns, even
# multiplied with each other.
MOST_COUNTED = 10**6  # answers, pictures, searches and the like
MOST_TOKENS = 10**9
# The member of a response that lets the model start other agents, and how many of them may work at once if it does not
# say so. How many there are in all, nothing limits (the SDK's `beta.response_create_params.MultiAgent`).
SUBAGENTS = "multi_agent"
USUAL_SUBAGENTS = 3


@dataclass(frozen=True)
class OutputLimit:
    """The limits of output tokens in a call's body, and the limit that the gateway may add to the body.

    * `stated`: the limits in the body, as names and values.
    * `member`: the name of the JSON member in which the gateway would add a limit.
    * `answers`: how many answers the call asks for.
    * `default`: the most tokens of each answer if the body states no limit; None if this is the model's maximum.
    """

    member: str
    stated: tuple[tuple[str, object], ...]
    answers: int
    default: int | None = None

    def capped(self, tokens: int) -> int:
        """Returns the limit to set for each answer, so that all answers together have at most `tokens` output tokens.

        The limit is never above `default`, the most tokens that an answer has without a limit.

        Raises:
            OutputLimitExceeded: the call asks for more answers than it may have tokens.
        """
        if self.answers > tokens:
            words = f"This key may have {tokens} output tokens per call, and the call asks for {self.answers} answers."
            raise OutputLimitExceeded(words, param="n")
        return self.at_most(tokens // self.answers)

    def at_most(self, tokens: int) -> int:
        """Returns the limit to add to a request: `tokens` or, if that is lower, `default`.

        `default` is the number of tokens that an answer may have if its request states no limit; None lowers nothing.
        """
        # An added limit must not make an answer longer than it would be without.
        return tokens if self.default is None else min(tokens, self.default)

    def tokens(self, most: int) -> int:
        """Returns the maximum number of output tokens of one answer: the highest limit in the body, or else `most`.

        `most` is the model's maximum. If a limit in the body is no positive integer, the result is `most`.
        """
        values = [value for _, value in self.stated]
        limits = [value for value in values if is_positive_integer(value)]
        return min(max(limits), MOST_TOKENS) if limits and len(limits) == len(values) else most

    def check(self, cap: int) -> None:
        """Checks each output limit in the body: all answers together must stay within `cap` output tokens.

        Raises:
            OutputLimitExceeded: a limit allows more, or is not a positive whole number.
        """
        for name, value in self.stated:
            # Some servers take 0 or -1 for "no limit". A legacy completion with 0 returns its prompt.
            is_none = isinstance(value, int) and value <= (0 if self.default is None else -1)
            if not isinstance(value, int) or isinstance(value, bool) or is_none:
                raise OutputLimitExceeded(
                    f"This key has a cap on output tokens, so '{name}' must be a positive whole number.", param=name
                )
            if value * self.answers > cap:
                asked = str(value)[:20] + (f" for each of {self.answers} answers" if self.answers > 1 else "")
                words = f"This key may have {cap} output tokens per call, and '{name}' asks for {asked}."
                raise OutputLimitExceeded(words, param=name)


@dataclass(frozen=True)
class AddedLimit:
    """An output limit that the gateway adds to a call's body: the JSON member's name, and the tokens per answer."""

    member: str
    tokens: int


def limit_by_key(route: Route | None, body: JSONBody | None, cap: int) -> AddedLimit | None:
    """Returns the output limit to add to a call whose key allows `cap` output tokens per call.

    Returns None if the body already states a limit, or if calls of this route cannot limit their output.

    Raises:
        OutputLimitExceeded: a limit in the body is above `cap` or is no positive whole number, or the call asks for
            more than `cap` answers.
    """
    limit = output_limit_of(route, body)
    if limit is None:
        return None
    if limit.stated:
        limit.check(cap)
        return None
    return AddedLimit(limit.member, limit.capped(cap))


def output_limit_of(route: Route | None, body: JSONBody | None) -> OutputLimit | None:
    """Returns the `OutputLimit` of a call's body: the limits that the body states, and where the gateway may add one.

    Returns None if calls of this route cannot limit their output, or if the call has no JSON body.
    """
    names = LIMIT_MEMBERS.get("" if route is None else route.name)
    if names is None or route is None or body is None:
        return None
    fields = by_plain_name(body.by_name)
    # Only a member of the right name limits the output for every server. If there is one, others may take its place.
    stated = () if body.by_name.keys().isdisjoint(names) else tuple(_stated(names, fields))
    return OutputLimit(names[0], stated, count_answers(fields), DEFAULT_LIMITS.get(route.name))


def by_plain_name(fields: Mapping[str, Sequence[T]]) -> Mapping[str, Sequence[T]]:
    """Returns the values of a request's members or form fields by names as OpenAI spells them: `n` for `N` and `n[]`.

    Some servers read these names alike. So the values of all spellings stand together, and the highest counts.
    """
    if all(name.isidentifier() and name.islower() for name in fields):  # as in nearly all requests
        return fields
    found: dict[str, list[T]] = {}
    for name, values in fields.items():
        path = field_path(name)
        found.setdefault(path[0] if len(path) == 1 else name, []).extend(values)
    return found


def count_answers(fields: Mapping[str, Sequence[object]]) -> int:
    """Returns how many answers a request asks for at most: the number of prompts times the choices for each prompt.

    Each subagent (`multi_agent`) counts like one more answer, since it makes output of its own.

    `fields` has the values of the request's members, or form fields, by name. If a member is given twice, the higher
    value counts.
    """
    if fields.keys().isdisjoint(("prompt", "n", "best_of", SUBAGENTS)):  # as nearly always
        return 1
    lists = [prompt for prompt in fields.get("prompt", ()) if isinstance(prompt, list)]
    prompts = [sum(isinstance(one, str | list) for one in prompt) or 1 for prompt in lists]  # else tokens of one
    choices = [count_in(value) for name in ("n", "best_of") for value in fields.get(name, ())]
    return min(max(prompts, default=1) * max([1, *choices]) * (1 + count_subagents(fields)), MOST_COUNTED)


def count_subagents(fields: Mapping[str, Sequence[object]]) -> int:
    """Returns how many subagents a response may have at the same time; 0 if the request asks for none.

    `fields` maps the names of the request's members to lists of their values; the highest number in them counts. If the
    request states no number, the usual one counts (`USUAL_SUBAGENTS`).
    """
    asked = [value for value in fields.get(SUBAGENTS, ()) if isinstance(value, dict) and value.get("enabled")]
    return max((count_in(one.get("max_concurrent_subagents")) or USUAL_SUBAGENTS for one in asked), default=0)


def add_output_limit(body: JSONBody, limit: AddedLimit) -> JSONBody:
    """Returns a copy of a JSON body with an output limit as its first member; all other bytes stay the same.

    If the body has this member with the value null, the limit replaces the null.
    """
    member, tokens = limit.member, limit.tokens
    text = body.text or decode(body.raw)
    if member in body.by_name:
        for given in reversed([one for one in read_object(text) if one.name == member]):
            text = f"{text[: given.value_start]}{tokens}{text[given.end :]}"
    else:
        at = text.index("{") + 1
        text = f'{text[:at]}"{member}":{tokens}{"," if body.members else ""}{text[at:]}'
    others = [one for one in body.members if one.name != member]
    return JSONBody(encode(text), [*others, Member(member, tokens, 0, 0, 0)])


def _stated(names: Sequence[str], fields: Mapping[str, Sequence[object]]) -> Iterator[tuple[str, object]]:
    """Yields the name and the value of each output limit in a body; `names` are the members that may state one.

    A member that is null states no limit. A member that is given twice yields both values.
    """
    for name in names:
        values = fields.get(name, ())
        if list(values) != [None]:
            # upstream decides which of them counts
            yield from ((name, value) for value in values)


def count_in(value: object) -> int:
    """Returns the highest number for which upstream might take a value in a request, such as `n`: 5 for `"5"`.

    It is used for upper bounds of the cost. A fraction is rounded up. A value that is no positive number becomes 0; the
    result is at most `MOST_COUNTED`.
    """
    if is_positive_integer(value):
        return min(value, MOST_COUNTED)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return max(0, min(math.ceil(float(value)), MOST_COUNTED))
    except (ValueError, OverflowError):
        return 0


def is_positive_integer(value: object) -> TypeGuard[int]:
    """Returns whether a value in a request is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
