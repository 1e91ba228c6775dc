"""Reads the labels of a call from its request: its end user, its session and its tags (docs/api.md, "Labels").

The caller may state them in the gateway's own headers, which never go upstream, or in fields of OpenAI's API. A header
has precedence. No label is refused: `proxyapi.call.journal_rows` redacts the texts and cuts long ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from proxyapi.bodies.billing_parameters import Fields, last_value

END_USER, SESSION, TAGS = "HTTP_X_PROXY_END_USER", "HTTP_X_PROXY_SESSION", "HTTP_X_PROXY_TAGS"
# The fields of OpenAI's that name the end user; OpenAI replaces the second one by the first.
END_USER_FIELDS = ("safety_identifier", "user")
SESSION_ID = "session_id"  # the member of `metadata` that names the session
LABEL_FIELDS = frozenset((*END_USER_FIELDS, "metadata", "conversation", "previous_response_id"))


class Labels(NamedTuple):
    """The labels of a call, as its request states them: end user, session and tags. An empty text means "not stated".

    `tags` are texts such as `night` or `project=x`. If no session is stated, `previous_response_id` is the id of the
    response that the call continues; the call then belongs to the session of that response.
    """

    end_user: str = ""
    session: str = ""
    previous_response_id: str = ""
    tags: tuple[str, ...] = ()


NO_LABELS = Labels()


def read_labels(head: Mapping[str, object], fields: Fields, metadata_tags: Sequence[str]) -> Labels:
    """Returns the labels of a call (end user, session, tags) that its request states.

    `head` has the request's headers, by their names in Django's `META`; `fields` has the values of the body's members,
    by name. For the end user and the session, a header takes precedence over the body. Tags come from both: from a
    header, and from those members of the body's `metadata` that `metadata_tags` lists.
    """
    end_user, session, tags = head.get(END_USER), head.get(SESSION), head.get(TAGS)
    if not (end_user or session or tags) and LABEL_FIELDS.isdisjoint(fields):  # as of most calls
        return NO_LABELS
    metadata = last_value(fields, "metadata")
    known: Mapping[str, object] = metadata if isinstance(metadata, dict) else {}
    stated = _header_text(session) or _text(known.get(SESSION_ID)) or _conversation(last_value(fields, "conversation"))
    return Labels(
        _header_text(end_user) or next(filter(None, (_text(last_value(fields, name)) for name in END_USER_FIELDS)), ""),
        stated,
        "" if stated else _text(last_value(fields, "previous_response_id")),
        (*_split(_header_text(tags)), *_tags_in(known, metadata_tags)),
    )


def add_tags(tags: Sequence[str], others: Iterable[str]) -> list[str]:
    """Returns the tags in `tags`, then those in `others` that are new.

    `project=y` is left out if there is a `project=x` before it, so that a call cannot change a tag of its key.
    """
    found = dict.fromkeys(tags)
    names = {name for name, is_valued, _ in (tag.partition("=") for tag in found) if is_valued}
    for tag in others:
        name, is_valued, _ = tag.partition("=")
        if not is_valued or name not in names:
            found[tag] = None
            if is_valued:
                names.add(name)
    return list(found)


def _header_text(value: object) -> str:
    """Decodes as UTF-8 a header's value that Django has decoded as Latin-1; strips white space.

    Returns an empty text if there is no such header.
    """
    if not isinstance(value, str):
        return ""
    return (value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")).strip()


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _conversation(value: object) -> str:
    """Returns the conversation's id from `value`, the body's member `conversation`: a text, or an object with an `id`.

    The result is an empty text if there is no such id.
    """
    return _text(value.get("id") if isinstance(value, dict) else value)


def _split(text: str) -> list[str]:
    """Splits a header such as `project=x, night` into tags; removes white space around names and values."""
    tags = ("=".join(part.strip() for part in tag.split("=", 1)) for tag in text.split(",")) if text else ()
    return [tag for tag in tags if tag]


def _tags_in(metadata: Mapping[str, object], names: Iterable[str]) -> list[str]:
    """Converts the members of `metadata` that are listed in `names` to tags: `{"project": "x"}` gives `project=x`."""
    return [f"{name}={value}" for name in names if (value := _text(metadata.get(name)))]
