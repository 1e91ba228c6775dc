"""The objects that one call creates upstream. The owner of each is recorded before the caller gets the answer."""

from __future__ import annotations

from collections.abc import Collection

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import NO_BODY
from proxyapi.exceptions import DatabaseUnavailable
from proxyapi.keys.globs import matches_any
from proxyapi.object_owners import owner_store
from proxyapi.routes import Route
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.created_ids import MAX_RECORDED_IDS, CreatedIds
from usage.answers.reader import parse_body
from usage.call_record import CallRecord

# Routes whose POST creates nothing that upstream stores.
NOT_KEPT = frozenset({
    "/v1/responses/input_tokens", "/v1/embeddings", "/v1/moderations", "/v1/audio/speech", "/v1/audio/transcriptions",
    "/v1/audio/translations", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations",
    "/v1/completions", "/v1/decisions", "/v1/content_provenance_checks",
})  # fmt: skip
# Routes whose objects gain ids after their creation, which a later GET shows.
GROWING = frozenset({
    "/v1/responses/{id}", "/v1/batches/{id}", "/v1/fine_tuning/jobs/{id}", "/v1/agents/sessions/{id}",
    "/v1/agents/automations/{id}/invocations/{id}",
})  # fmt: skip
# The lists of such objects: those of an automation are its own, all others are filtered (`record_listed`).
GROWING_LISTS = frozenset(name.removesuffix("/{id}") for name in GROWING)
# Routes whose answer has the new object's id at the end of its `Location` header, and not in its body.
IN_LOCATION = frozenset({"/v1/realtime/calls"})


class CreatedObjects:
    """Collector of the ids of the objects that one call has created upstream; records the call's key as their owner."""

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()
        self._made: list[str] = []
        self._lasts = False
        self._perhaps_older: list[str] = []  # ids of objects that an earlier call may have created
        self._shared: Collection[str] = ()

    def exclude(self, named: Collection[str], shared: Collection[str] = ()) -> None:
        """Excludes ids of older objects, which answers repeat, so that `record` does not take them for new ones.

        * `named`: the ids that the request itself names.
        * `shared`: patterns for the ids of objects that are shared with the key. They exclude ids only in places where
          an answer may name older objects (`CreatedIds.perhaps_older`).
        """
        if named:
            self._named = self._named.union(named)
        self._shared = shared or self._shared

    def record(self, objects: CreatedIds, key_name: str) -> None:
        """Records the key `key_name` as the owner of the new objects that upstream's answer has named until now.

        `objects` is the reader that finds these ids; each id is handled once, however often this is called. Skipped are
        the ids of known older objects (`exclude`). If the request names any object, such as an earlier response, or
        creates none, the ids in `objects.perhaps_older` may be older, too: they are only put on a list here, and
        `record_perhaps_older` records those of no other key once the answer has ended.
        """
        self._lasts = objects.lasts
        may_be_older = bool(self._named) or not objects.is_creating
        for object_id in objects.take_new():
            is_perhaps_older = may_be_older and object_id in objects.perhaps_older
            # Nobody may have made a shared object through this gateway: then the owner store does not know it.
            if object_id in self._named or (is_perhaps_older and matches_any(object_id, self._shared)):
                continue
            self._made.append(object_id)
            if is_perhaps_older:
                self._perhaps_older.append(object_id)
            else:
                owner_store.record_owner(object_id, key_name)

    async def record_listed(self, page: bytes, key_name: str) -> None:
        """Records the key as the owner of what its objects in a list have created, such as the files of its batches.

        `page` is the list as the caller gets it. It may also have objects that are shared with the key.

        Raises:
            DatabaseUnavailable: only the database knows the owner of an object, and it is unavailable.
        """
        data = (await large_bodies.run(len(page), parse_body, page)).get("data")
        items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        owners = await owner_store.owners_of([str(item.get("id")) for item in items])
        objects = CreatedIds(is_creating=False)
        for item in items:
            if owners.get(str(item.get("id"))) == key_name:
                objects.read(item)
        self.record(objects, key_name)

    async def record_perhaps_older(self, key_name: str) -> None:
        """Records the key as the owner of the objects that may be older than the call, if they belong to no key yet.

        To be called once the answer has ended. Those of another key are left out of the call's row. If the database is
        unavailable, nothing is recorded here: the call's row brings the owner into the database, which keeps the first
        owner of each object.
        """
        # The code interpreter goes on in the container of an earlier response, which may be another key's; and who
        # changes an assistant gets the ids of its vector stores, which may be shared ones.
        if not self._perhaps_older:
            return
        try:
            owners = await owner_store.owners_of(self._perhaps_older)
        except DatabaseUnavailable:
            return
        foreign = {object_id for object_id, owner in owners.items() if owner != key_name}
        self._made = [object_id for object_id in self._made if object_id not in foreign]
        for object_id in self._perhaps_older:
            if object_id not in owners:
                owner_store.record_owner(object_id, key_name)

    def columns(self) -> CallRecord:
        """Returns the columns about created objects for the call's ledger row; none if the call has created no objects.

        The columns are the objects' ids (at most `MAX_RECORDED_IDS`), and whether upstream keeps the objects until they
        are deleted.
        """
        if not self._made:
            return {}
        return {"objects": self._made[:MAX_RECORDED_IDS], "objects_last": self._lasts}


def expected_ids(route: Route, request: UpstreamRequest, *, is_own: bool) -> CreatedIds | None:
    """Returns the reader that finds the ids of new stored objects in upstream's answer; None if nothing is stored.

    Only a POST has a reader, and a GET of an object that may create others while it runs, as a batch does, or of the
    list of an automation's invocations, if that object belongs to the caller's key (`is_own`). For a POST about an
    object of another key, the reader finds only what is new, and not what the answer names beside it: it may be that
    key's, such as the result file of a batch that the built-in key cancels.
    """
    if request.method != "POST":
        is_growing = request.method == "GET" and is_own and (route.name in GROWING or route.name in GROWING_LISTS)
        return CreatedIds(is_creating=False, lasts=route.family.name != "responses") if is_growing else None
    if route.name in NOT_KEPT or route.family.name == "models":
        return None
    body = request.json or NO_BODY
    if route.name == "/v1/chat/completions":
        is_stored, has_audio = any(body.values("store")), any(body.values("audio"))
        return CreatedIds(is_stored=is_stored, lasts=False) if is_stored or has_audio else None
    if route.name == "/v1/responses":
        is_stored = [value for value in body.values("store") if value is not None] != [False]
        return CreatedIds(is_stored=is_stored, lasts=any(body.values("conversation")))
    return CreatedIds(
        lasts=route.family.name != "responses",
        is_in_location=route.name in IN_LOCATION,
        is_of_own_object=is_own or not route.object_id,
    )
