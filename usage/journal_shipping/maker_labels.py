"""Assigns the cost of a response to the team, owner and labels of the call that created it, even if others read it."""

from __future__ import annotations

from usage.call_record import CallRecord


def with_labels_of(maker: CallRecord, row: CallRecord) -> CallRecord:
    """Returns a copy of the row of a call that reads a response, with the labels of the call that created the response.

    `row` is the row of the reading call, `maker` that of the creating call. Team and owner are always taken from
    `maker`. End user and session are taken from it if `row` has none. Its tags are added, except those whose name a tag
    of `row` has.
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
