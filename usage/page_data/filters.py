"""The filters of the list of calls: read from a page's URL, written into a URL, and translated to SQL conditions.

Over 300 lines, since a filter is read, written and translated in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from django.db.models import QuerySet

from usage.call_record import CALLED_MODEL_SQL
from usage.ip_addresses import mapped_address, plain_address
from usage.models import Dimension, Outcome, SummedName
from usage.page_data.call_search.searched_words import MAX_WORDS, split_words
from usage.prices.price_lookup import undated_name
from usage.sums.labels.label_groups import ANY_DATE as OF_ANY_DATE
from usage.sums.ranges import read_moment, read_range
from usage.sums.summed_names import OTHER_CODE, UNKNOWN_MODEL

MAX_TEXT = 200  # characters of a filter; the rest is cut
MAX_CHOICES = 300  # names of keys, of models and of routes that are offered to choose from
MAX_NUMBER = 40  # characters of a number to compare with
MAX_EXPONENT = 20  # of such a number: PostgreSQL refuses numbers with thousands of digits
NUL_IN_BODIES = "\ufffd"  # stands for NUL in stored bodies (`usage.kept_bodies.body_excerpts.storable`)
NO_STATUS = "none"
ANY_FAILURE = "failed"
# What a call was for: columns, with their names on pages.
LABELS = {"team": "Team", "owner": "Key owner", "end_user": "End user", "session": "Session"}
# The columns by which the list can be sorted, the largest value first.
SORTS = {"duration": "duration_ms", "cost": "cost", "output": "output_tokens"}
NAMES = ("key", "model", "route", "code", "message", *LABELS)  # filters by a name, which may be empty
NO_NAME = "(none)"  # stands for an empty name in an address, where an empty text means no filter
ANY_DATE = " (any date)"  # after the undated name of a model: all of its names; the text for `OF_ANY_DATE`
LITERALLY = "\\"  # before a name in an address that would mean something else there: callers choose some names
NOT_IN_QUERY = frozenset({"since", "until", "faults", "with_messages", "is_own"})
FAILURES = frozenset(Outcome.values) - {Outcome.SUCCESS}


@dataclass(frozen=True)
class Filters:
    """The filters by which the list of requests selects calls.

    A field with the default None: None means no filter, and an empty text selects the calls that have no such value. A
    field with the default "": an empty text means no filter.

    * `faults`: a sentence for the reader of the page about each filter that could not be read, and so is not applied.
    * `with_messages`: whether the person may see prompts, answers and error messages. Only then are `text` and error
      messages searched.
    * `is_own`: whether the list is for the holder of `key`. It then leaves out polls, the gateway's own requests for
      background responses.
    """

    q: str = ""  # a whole id, or a part of a name, of an error's code or of its message
    text: str = ""  # words and "phrases" that are all in the prompt or in the answer
    key: str | None = None
    model: str | None = None
    route: str | None = None
    outcome: str = ""  # an `Outcome`, or `ANY_FAILURE`
    status: str = ""  # a number, or `NO_STATUS`
    code: str | None = None  # the code of the error
    message: str | None = None  # the group of the error's message (`usage.kept_bodies.error_messages`)
    stream: str = ""  # `yes` or `no`
    conversation: str = ""  # `yes` selects calls that have a session, `no` those that have none
    cost: str = ""  # selects calls that cost more than so many dollars
    slower: str = ""  # selects calls that took longer than so many seconds
    caller: str = ""  # the client's IP address
    team: str | None = None
    owner: str | None = None
    end_user: str | None = None
    session: str | None = None
    tag: str = ""  # the name of a tag, with any value, or `name=value`
    sort: str = field(default="", compare=False)  # one of `SORTS`: the largest first; by default the newest first
    since: datetime | None = None
    until: datetime | None = None
    faults: tuple[str, ...] = field(default=(), compare=False)
    with_messages: bool = field(default=False, compare=False)
    is_own: bool = field(default=False, compare=False)

    def as_query(self) -> dict[str, str]:
        """Returns these filters as query parameters for a page's URL, which `read_filters` parses.

        Times are cut to the minute.
        """
        query = {
            item.name: value
            for item in fields(self)
            if item.name not in NOT_IN_QUERY and (value := getattr(self, item.name)) not in ("", None)
        }
        query |= {name: in_address(value) for name in NAMES if (value := getattr(self, name)) is not None}
        for name, moment in (("from", self.since), ("to", self.until)):
            if moment:
                query[name] = f"{moment:%Y-%m-%dT%H:%M}"
        return query


def in_address(name: str) -> str:
    """Encodes a name, such as a model's, as the value of a query parameter; `name_in` decodes it.

    An empty name becomes `NO_NAME`, since an empty value means no filter. A value of `Filters.model` that stands for a
    model with any date gets the ending `ANY_DATE`, which only `model_in` decodes. A name that could be mistaken for
    one of these codes gets the prefix `LITERALLY`.
    """
    if name.endswith(OF_ANY_DATE):
        return name.removesuffix(OF_ANY_DATE) + ANY_DATE
    means_other = name == NO_NAME or name.endswith(ANY_DATE) or name.startswith(LITERALLY)
    return f"{LITERALLY}{name}" if means_other else name or NO_NAME


def name_in(text: str) -> str | None:
    """Decodes a name from the value of a query parameter, as `in_address` encodes it; None means no filter.

    `NO_NAME` becomes an empty name, which selects calls without a model, for example. An empty value becomes None. A
    name is cut to `MAX_TEXT` characters, and NUL is removed from it.
    """
    text = text.replace("\0", "")[: MAX_TEXT + len(LITERALLY)]
    if text.startswith(LITERALLY):
        return text.removeprefix(LITERALLY)
    return "" if text == NO_NAME else text[:MAX_TEXT] or None


def model_in(text: str) -> str | None:
    """Decodes a model from the value of a query parameter, as `in_address` encodes it; None means no filter.

    The result is a model's name or, for a model with any date, its undated name and `OF_ANY_DATE`.
    """
    if text.endswith(ANY_DATE) and not text.startswith(LITERALLY):
        return text.replace("\0", "")[:MAX_TEXT].removesuffix(ANY_DATE) + OF_ANY_DATE
    return name_in(text)


def model_of_any_date(model: str | None) -> str | None:
    """Returns the undated model name in a filter value that stands for a model with any date; else None."""
    return model.removesuffix(OF_ANY_DATE) if model is not None and model.endswith(OF_ANY_DATE) else None


def read_filters(
    query: Mapping[str, str], now: datetime, *, with_messages: bool = False, is_own: bool = False
) -> Filters:
    """Parses the filters of the list of requests from the query parameters of a page's URL.

    `with_messages` says whether the person may see error messages, prompts and answers. `is_own` says whether the list
    is for the holder of a key; such a list is always sorted by time. Filters that cannot be read are not applied, and
    `Filters.faults` has a sentence about each.
    """
    address = _Address(query)
    words = address.read_words(is_allowed=with_messages)
    return Filters(
        q=address.read_text("q"),
        text=words,
        key=address.read_name("key"),
        model=address.read_model("model"),
        route=address.read_name("route"),
        code=address.read_name("code"),
        message=address.read_name("message"),
        team=address.read_name("team"),
        owner=address.read_name("owner"),
        end_user=address.read_name("end_user"),
        session=address.read_name("session"),
        tag=address.read_text("tag"),
        outcome=address.read("outcome", _outcome),
        status=address.read("status", _status),
        caller=address.read("caller", _client_address),
        stream=address.read("stream", _yes_or_no),
        conversation=address.read("conversation", _yes_or_no),
        cost=address.read_number("cost"),
        slower=address.read_number("slower"),
        sort=address.read_sort(has_words=bool(words)) if not is_own else "",
        **address.read_times(now),
        faults=tuple(address.faults),
        with_messages=with_messages,
        is_own=is_own,
    )


class _Address:
    """Reader of the query parameters in a page's URL. `faults` has a sentence about each parameter that is wrong."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self.faults: list[str] = []

    def read_text(self, name: str) -> str:
        """Returns the query parameter `name` as text; "" if it is missing.

        The text is cut to `MAX_TEXT` characters, and NUL and the white space at its ends are removed.
        """
        return self._raw(name).strip()

    def read_words(self, *, is_allowed: bool) -> str:
        """Returns the query parameter `text`, the words to search for in prompts and answers; "" if it is missing.

        If `is_allowed` is false, the person may not search there, and the result is "". A text is cut to `MAX_TEXT`
        characters, and only its first `MAX_WORDS` words are searched for. Each of these restrictions that takes effect
        adds a sentence to `faults`.
        """
        text = self._query.get("text", "").replace("\0", NUL_IN_BODIES).strip()
        if text and not is_allowed:
            self.faults.append("Prompts and answers are not searched: your account has no permission to see them.")
            return ""
        if len(text) > MAX_TEXT:
            self.faults.append(f"Prompts and answers are searched for the first {MAX_TEXT} characters of the text.")
        text = text[:MAX_TEXT].strip()
        if len(split_words(text)) > MAX_WORDS:
            self.faults.append(f"Prompts and answers are searched for the first {MAX_WORDS} words and phrases.")
        return text

    def read_name(self, name: str) -> str | None:
        """Returns the query parameter `name` as a name to filter by; None if there is no filter."""
        return name_in(self._query.get(name, ""))

    def read_model(self, name: str) -> str | None:
        """Returns the query parameter `name` as a value of `Filters.model`: a model's name, or a model with any date.

        Returns None if there is no filter.
        """
        return model_in(self._query.get(name, ""))

    def read(self, name: str, parse: Callable[[str], str]) -> str:
        """Returns the query parameter `name`, parsed by the function `parse`.

        If `parse` raises ValueError, adds the error's text to `faults`, and returns an empty text: no filter.
        """
        try:
            return parse(self.read_text(name))
        except ValueError as fault:
            self.faults.append(str(fault))
            return ""

    def read_sort(self, *, has_words: bool) -> str:
        """Returns the query parameter `sort`, one of `SORTS`; "" for the newest calls first.

        A search for words in prompts and answers (`has_words`) is always newest first. For a sort that is not applied,
        adds a sentence to `faults`.
        """
        found = self.read("sort", _sort)
        if found and has_words:
            self.faults.append("Calls that are found by words of a prompt are listed newest first.")
            return ""
        return found

    def read_number(self, name: str) -> str:
        """Returns the query parameter `name` as text if it is empty or a number from 0 to below a billion.

        For another text, adds a sentence to `faults`, and returns an empty text, which means no filter.
        """
        text = self._query.get(name, "").strip()
        try:
            is_number = not text or (len(text) <= MAX_NUMBER and _is_comparable(Decimal(text)))
        except InvalidOperation:
            is_number = False
        if not is_number:
            self.faults.append(f"{text[:40]!r} is no number to compare with.")
        return text if is_number else ""

    def read_times(self, now: datetime) -> dict[str, datetime | None]:
        """Returns the range of time of the calls to select, as a dict with `since` and `until`; None means no limit.

        The range comes from the query parameter `range`, such as `today`, or else from `from` and `to`. If `range` has
        not ended, `until` is None. If the parameters cannot be read, the dict is empty, and `faults` gets the reason.
        """
        try:
            if self._query.get("range"):
                named = read_range(self._query, now)
                return {"since": named.start, "until": named.end if named.end < now else None}
            since, until = (
                read_moment(self._query[name], now) if self._query.get(name) else None for name in ("from", "to")
            )
        except ValueError as fault:
            self.faults.append(str(fault))
            return {}
        return {"since": since, "until": until}

    def _raw(self, name: str) -> str:
        return self._query.get(name, "").replace("\0", "")[:MAX_TEXT]


def _is_comparable(number: Decimal) -> bool:
    """Returns whether a number is from 0 to below a billion, with an exponent that PostgreSQL can read."""
    return number.is_finite() and 0 <= number < 10**9 and abs(number.adjusted()) <= MAX_EXPONENT


def _outcome(text: str) -> str:
    if text not in ("", ANY_FAILURE, *Outcome.values):
        raise ValueError(f"{text[:40]!r} is no outcome.")
    return text


def _status(text: str) -> str:
    if text not in ("", NO_STATUS) and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:40]!r} is no status.")
    return text


def _sort(text: str) -> str:
    if text not in ("", *SORTS):
        raise ValueError(f"Calls cannot be sorted by {text[:40]!r}.")
    return text


def _client_address(text: str) -> str:
    address = plain_address(text) if text else ""
    if address is None:
        raise ValueError(f"{text[:40]!r} is no address.")
    return address


def _yes_or_no(text: str) -> str:
    if text not in ("", "yes", "no"):
        raise ValueError(f"{text[:40]!r} is neither yes nor no.")
    return text


def read_choices(dimensions: Iterable[Dimension]) -> dict[str, list[str] | None]:
    """Returns a map from each dimension (such as key or model) to the names that its filter offers as choices.

    The map has None for a dimension with more than `MAX_CHOICES` names; the page then suggests names while people type
    (`find_names`).
    """
    found = {dimension: list(_names(dimension)[: MAX_CHOICES + 1]) for dimension in dimensions}
    return {dimension: names if len(names) <= MAX_CHOICES else None for dimension, names in found.items()}


def find_names(dimension: Dimension, text: str, most: int) -> list[str]:
    """Returns the first `most` names of keys, models or routes that contain the given text, in alphabetical order.

    Upper and lower case are not distinguished.
    """
    return list(_names(dimension).filter(value__icontains=text)[:most])


def _names(dimension: Dimension) -> QuerySet[SummedName, str]:
    return SummedName.objects.filter(dimension=dimension).order_by("value").values_list("value", flat=True)


# SQL

SQLValue = str | int | float | Decimal | UUID | list[str]


@dataclass(frozen=True)
class Condition:
    """One SQL condition on the table of calls, with the values for its placeholders."""

    sql: str
    values: tuple[SQLValue, ...] = ()
    has_index: bool = False  # an index finds the calls that fulfil it, newest first
    is_threshold: bool = False  # its index is ordered by cost or duration, so it cannot give the newest calls first
    any_of: tuple[Condition, ...] = ()  # each with an index; together they find the calls that fulfil this condition
    in_slice: str = ""  # the same condition on the columns of a slice (`search.SLICE_COLUMNS`), if it differs


FAILED = Condition("outcome <> 'success'", has_index=True)
UNKNOWN = Condition("unknown_model", has_index=True)
NO_POLL = Condition("NOT by_gateway")


def conditions_of(filters: Filters) -> list[Condition]:
    """Translates the filters to SQL conditions on calls, except for the range of time and the searched texts.

    The searched texts are in the fields `q` and `text`.
    """
    # A search follows the index of the first condition that has one, so the most selective come first.
    return [
        *_label_conditions(filters),
        *_own_conditions(filters),
        *_failure_conditions(filters),
        *_name_conditions(filters),
        *_tag_conditions(filters),
        *_caller_conditions(filters),
        *_threshold_conditions(filters),
    ]


def _label_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of the filters by session, end user, owner and team."""
    found: list[Condition] = []
    for column in reversed(LABELS):
        value = getattr(filters, column)
        if value:  # the index has no calls without the label
            found.append(Condition(f"{column} <> '' AND {column} = %s", (value,), has_index=True))
        elif value is not None:
            found.append(Condition(f"{column} = ''"))
    if filters.conversation:
        found.append(Condition("session <> ''" if filters.conversation == "yes" else "session = ''"))
    return found


def _own_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of a list for the holder of a key: only this key's calls, and no polls.

    Polls are the gateway's own requests. For another list (`is_own` is false), returns an empty list.
    """
    # Before all others: along another index, a search would read the calls of all other keys.
    return [*_key_conditions(filters), NO_POLL] if filters.is_own else []


def _key_conditions(filters: Filters) -> list[Condition]:
    """Returns a list with the SQL condition of the filter by key; an empty list if there is no such filter."""
    return [] if filters.key is None else [_name_condition("key_name", filters.key, "key_name")]


def _tag_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of the filter by a tag: by the tag's name, or by `name=value`."""
    if not filters.tag:
        return []
    tagged = Condition("tags <> '{}'", has_index=True)
    if "=" in filters.tag:
        return [tagged, Condition("%s = ANY(tags)", (filters.tag,))]
    return [
        tagged,
        Condition("EXISTS (SELECT FROM unnest(tags) AS tag WHERE split_part(tag, '=', 1) = %s)", (filters.tag,)),
    ]


def _failure_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of the filters by outcome, HTTP status, error code, message and unknown model."""
    found: list[Condition] = []
    if filters.model == UNKNOWN_MODEL:
        found.append(UNKNOWN)
    if filters.code == OTHER_CODE:
        found += [FAILED, Condition("other_code")]
    elif filters.code is not None:
        found.append(Condition("outcome <> 'success' AND error_code = %s", (filters.code,), has_index=True))
    if filters.message is not None:
        found += [FAILED, Condition("error_group = %s", (filters.message,))]
    if filters.status == NO_STATUS:
        found += [FAILED, Condition("status IS NULL")]
    elif filters.status:
        status = min(int(filters.status[:5]), 999)
        is_failure = status >= 300
        sql = "status >= 300 AND status = %s" if is_failure else "status = %s"
        found.append(Condition(sql, (status,), has_index=is_failure))
    if filters.outcome in (ANY_FAILURE, *FAILURES):
        found.append(FAILED)
    if filters.outcome in Outcome.values:
        found.append(Condition("outcome = %s", (filters.outcome,)))
    return found


def _name_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of the filters by model, key and route.

    Two filters are left to other functions: the key of a list for its holder (`_own_conditions`), and the model
    `UNKNOWN_MODEL` (`_failure_conditions`).
    """
    found: list[Condition] = []
    if (undated := model_of_any_date(filters.model)) is not None:
        names = names_of_model(undated)
        each = tuple(_name_condition(CALLED_MODEL_SQL, name, "model") for name in names)
        found.append(Condition(f"{CALLED_MODEL_SQL} = ANY(%s)", (names,), any_of=each, in_slice="model = ANY(%s)"))
    elif filters.model is not None and filters.model != UNKNOWN_MODEL:
        found.append(_name_condition(CALLED_MODEL_SQL, filters.model, "model"))
    if not filters.is_own:
        found += _key_conditions(filters)
    if filters.route is not None:
        found.append(_name_condition("route", filters.route, "route"))
    return found


def _name_condition(column: str, name: str, slice_column: str) -> Condition:
    return Condition(f"{column} = %s", (name,), has_index=True, in_slice=f"{slice_column} = %s")


def names_of_model(model: str) -> list[str]:
    """Returns those names in the tables of sums that are the undated model name `model`, or a dated version of it."""
    return [name for name in _names(Dimension.MODEL).filter(value__startswith=model) if undated_name(name) == model]


def _caller_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of two filters: streamed or not, and the client's IP address."""
    found: list[Condition] = []
    if filters.stream:
        found.append(Condition("stream" if filters.stream == "yes" else "NOT stream"))
    if filters.caller:
        forms = [filters.caller, mapped_address(filters.caller)]  # older rows may have the address in the second form
        found.append(Condition("client_address = ANY(%s::inet[])", (forms,)))
    return found


def _threshold_conditions(filters: Filters) -> list[Condition]:
    """Returns the SQL conditions of the filters by cost and duration: more than so many dollars or seconds."""
    found: list[Condition] = []
    if filters.cost:
        found.append(Condition("cost > %s", (Decimal(filters.cost),), is_threshold=True))
    if filters.slower:
        found.append(Condition("duration_ms > %s", (float(filters.slower) * 1000,), is_threshold=True))
    return found
