"""Assigns the cost of a response to the team, owner and labels of the call that created it, even if others read it."""

from __future__ import annotations

from usage.call_record import CallRecord


def with_labels_of(maker: CallRecord, row: CallRecord) -> CallRecord:
    """Returns a copy of `row`, which has read a response, with the labels of `maker`, which has created this response.

    Both are rows of calls. The team and the owner are those of `maker`. The end user and the session are those of
    `row`, if it has any, else those of `maker`. The tags of both are kept; if both have a tag of the same name, that of
    `row` counts.
    """
    tags = row.get("tags") or []
    names = {tag.partition("=")[0] for tag in tags}
    return {
        **row,
        "team": maker.get("team", ""),
        "owner": maker.get("owner", ""),
        "end_user": row.get("end_user") or maker.get("end_user", ""),
        "session": row.get("session") or maker.get("session", ""),
        "tags": [*tags, *(tag for tag in maker.get("tags") or [] if tag.partition("=")[0] not in names)],
    }
