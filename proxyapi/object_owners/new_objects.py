"""The objects that one call creates upstream; the owner of each is recorded before the answer with its id leaves."""

from __future__ import annotations

from collections.abc import Collection

from proxyapi.object_owners import ownership
from usage.answers.created_ids import MAX_RECORDED_IDS, CreatedIds
from usage.call_record import CallRecord


class NewObjects:
    """The objects that a call has created. Ids in its request are no new objects: answers repeat them."""

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()
        self._made: list[str] = []

    def exclude(self, named: Collection[str]) -> None:
        """Adds ids that the request names, which the call cannot create."""
        if named:
            self._named = self._named.union(named)

    def record(self, objects: CreatedIds, key_name: str) -> None:
        """Records `key_name` as the owner of the ids that have been read of the answer since the last call."""
        for object_id in objects.take_new():
            if object_id not in self._named:
                ownership.remember(object_id, key_name)
                self._made.append(object_id)

    def columns(self, objects: CreatedIds | None) -> CallRecord:
        """Returns the fields of the call's record for `usage.shipping.stored_objects`; none for most calls."""
        if not self._made or objects is None:
            return {}
        return {"objects": self._made[:MAX_RECORDED_IDS], "objects_last": objects.lasts}
