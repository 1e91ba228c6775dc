"""Owns what one call has made upstream: each object's owner is recorded before the answer with its id leaves."""

from __future__ import annotations

from collections.abc import Collection

from proxyapi.object_owners import ownership
from usage.answers.created_ids import MAX_RECORDED_IDS, CreatedIds
from usage.call_record import CallRecord


class NewObjects:
    """The objects of one call. What its request names it has not made: answers repeat such ids."""

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()
        self._made: list[str] = []

    def exclude(self, named: Collection[str]) -> None:
        """These ids are in the request."""
        if named:
            self._named = self._named.union(named)

    def record(self, objects: CreatedIds, key_name: str) -> None:
        """Makes `key_name` the owner of what has been read of the answer since the last time."""
        for object_id in objects.take_new():
            if object_id not in self._named:
                ownership.remember(object_id, key_name)
                self._made.append(object_id)

    def columns(self, objects: CreatedIds | None) -> CallRecord:
        """What the call's record says of them, for `usage.shipping.stored_objects`; nothing for most calls."""
        if not self._made or objects is None:
            return {}
        return {"objects": self._made[:MAX_RECORDED_IDS], "objects_last": objects.lasts}
