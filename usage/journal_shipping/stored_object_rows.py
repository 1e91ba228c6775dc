"""The table of stored objects: which key created each object that upstream stores.

Its rows are made from the records of ended calls, in the transaction that writes the calls' rows. The first record that
names an object decides about its key, so that no key becomes the owner of another key's object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from usage.answers.created_ids import is_object_id
from usage.call_record import CallRecord
from usage.models import Request, StoredObject

# The routes of calls that create an object and have its id as their `response_id`.
MAKING_ROUTES = ("/openai2", "/v1/responses", "/v1/conversations", "/v1/chat/completions", "/openai", "/chatgpt")


def write_objects(rows: Iterable[CallRecord]) -> None:
    """Inserts a row into the table of stored objects for each object that the given calls have created.

    If the table has a row of the object already, that row stays. If several calls name the same object, the call that
    began first counts. Call this in the transaction that writes the calls' rows.
    """
    making = [row for row in rows if row.get("objects")]
    objects = {
        object_id: StoredObject(
            object_id=object_id,
            key_name=row["key_name"],
            request_id=row["request_id"],
            lasts=bool(row.get("objects_last", True)),
        )
        for row in sorted(making, key=lambda row: str(row["request_id"]), reverse=True)
        for object_id in object_ids(row)
    }
    if objects:  # sorted, because two processes that insert the same ids in different orders would wait for each other
        StoredObject.objects.bulk_create([objects[key] for key in sorted(objects)], ignore_conflicts=True)


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
