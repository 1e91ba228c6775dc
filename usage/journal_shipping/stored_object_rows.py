"""The table of stored objects: which key created each object that upstream stores.

Its rows are made from the records of ended calls, in the transaction that writes the calls' rows. The first record that
names an object decides about its key, so that no key becomes the owner of another key's object.

Some servers draw their ids from so few numbers that two keys get the same one: Ollama, for example, takes one of
999,999 for a response, and for its message. Each further key that was given an id has a row of its own, under a name
that `given_name` makes of the id and the key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db import connection

from usage.answers.created_ids import is_object_id
from usage.call_record import CallRecord
from usage.models import Request, StoredObject

# The routes of calls that create an object and have its id as their `response_id`.
MAKING_ROUTES = ("/openai2", "/v1/responses", "/v1/conversations", "/v1/chat/completions", "/openai", "/chatgpt")


# Sorted by id, because two processes that insert the same ids in different orders would wait for each other.
INSERT = """
    INSERT INTO usage_storedobject (object_id, key_name, request_id, lasts)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::uuid[], %s::boolean[]) AS made (object_id)
    ORDER BY object_id COLLATE "C" ON CONFLICT DO NOTHING
"""
LONGEST_NAME = 512  # characters, as the column takes them

Made = dict[str, tuple[str, object, bool]]  # by its id, an object's key, the id of its call, and whether it lasts


def write_objects(rows: Iterable[CallRecord]) -> None:
    """Inserts a row into the table of stored objects for each object that the given calls have created.

    If the table has a row of the object already, that row stays. If several calls name the same object, the call that
    began first counts. Every other key gets a row that says that it was given the id, too (`given_name`). Call this in
    the transaction that writes the calls' rows.
    """
    making = sorted((row for row in rows if row.get("objects")), key=lambda row: str(row["request_id"]))
    objects: Made = {}
    again: Made = {}  # of other keys, by `given_name`
    for row in making:
        made: tuple[str, object, bool] = row["key_name"], row["request_id"], bool(row.get("objects_last", True))
        for object_id in object_ids(row):
            if objects.setdefault(object_id, made)[0] != made[0]:
                again.setdefault(given_name(object_id, made[0]), made)
    if objects and _insert(objects) < len(objects):
        owners = dict(StoredObject.objects.filter(pk__in=objects).values_list("object_id", "key_name"))
        for object_id, made in objects.items():
            if owners.get(object_id, made[0]) != made[0]:
                again.setdefault(given_name(object_id, made[0]), made)
    _insert({name: made for name, made in again.items() if len(name) <= LONGEST_NAME})


def _insert(objects: Made) -> int:
    """Inserts rows into the table of stored objects, unless it has them; returns how many were inserted."""
    if not objects:
        return 0
    columns = zip(*((object_id, *made) for object_id, made in objects.items()), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [list(column) for column in columns])
        return int(cursor.rowcount)


def given_name(object_id: str, key_name: str) -> str:
    """Returns the name of the row which says that the key was given an id that another key had been given before.

    No id of an object is equal to such a name, since ids have no control characters.
    """
    return f"{object_id}\n{key_name}"


def object_ids(row: CallRecord) -> list[str]:
    """Returns the ids of the objects that a call has created upstream, from the call's row, without invalid ids."""
    given: object = row.get("objects")  # in a dead letter it may be anything
    return list(filter(is_object_id, given)) if isinstance(given, list) else []


def makers(wanted: Collection[str]) -> dict[str, str]:
    """Returns which key has created each of some stored objects, as a map from object ids to names of keys.

    `wanted` are the object ids. Objects that no key of this gateway has created are absent.

    Raises:
        django.db.Error: the database cannot be read.
    """
    known = dict(StoredObject.objects.filter(pk__in=wanted).values_list("object_id", "key_name"))
    # Old responses and completions have no row among the objects: the first call with the id made them.
    others = [object_id for object_id in wanted if object_id not in known]
    if others:
        rows = Request.objects.filter(response_id__in=others, method="POST", route__in=MAKING_ROUTES)
        known |= dict(rows.order_by("-request_id").values_list("response_id", "key_name"))
    return known
