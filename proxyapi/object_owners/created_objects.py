"""The objects that one call creates upstream. The owner of each is recorded before the caller gets the answer."""

from __future__ import annotations

from collections.abc import Collection

from proxyapi.object_owners import owner_store
from usage.answers.created_ids import MAX_RECORDED_IDS, CreatedIds
from usage.call_record import CallRecord


class CreatedObjects:
    """Collector of the ids of the objects that one call has created upstream; records the call's key as their owner."""

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()
        self._made: list[str] = []

    def exclude(self, named: Collection[str]) -> None:
        """Excludes ids that the request itself names, so that `record` does not take them for ids of new objects."""
        # Answers repeat such ids.
        if named:
            self._named = self._named.union(named)

    def record(self, objects: CreatedIds, key_name: str) -> None:
        """Records the key `key_name` as the owner of the new objects that upstream's answer has named until now.

        `objects` is the reader that finds the ids in the answer. Ids that the request itself names are left out.
        """
        for object_id in objects.take_new():
            if object_id not in self._named:
                owner_store.record_owner(object_id, key_name)
                self._made.append(object_id)

    def columns(self, objects: CreatedIds | None) -> CallRecord:
        """Returns the columns about created objects for the call's ledger row; none if the call has created no objects.

        The columns are the objects' ids (at most `MAX_RECORDED_IDS`), and whether upstream keeps the objects until they
        are deleted. `objects` is the reader that has found the ids in the answer.
        """
        if not self._made or objects is None:
            return {}
        return {"objects": self._made[:MAX_RECORDED_IDS], "objects_last": objects.lasts}
