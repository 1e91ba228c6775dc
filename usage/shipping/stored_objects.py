"""The table of stored objects: which key made each object that upstream keeps.

Rows come from the end records of calls, in the transaction that writes the calls' rows. The first record that names an
object decides: nobody becomes the owner of what another key has made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from usage.answers.created_ids import is_object_id
from usage.call_record import CallRecord
from usage.models import Request, StoredObject

# Calls whose `response_id` is an object of their own making.
MAKING_ROUTES = ("/openai2", "/v1/responses", "/v1/conversations", "/v1/chat/completions", "/openai", "/chatgpt")


def write_objects(rows: Iterable[CallRecord]) -> None:
    """Inserts a row for each object that the given calls have created upstream, with the key that created it.

    Call this function in the transaction that writes the rows of the calls.
    """
    objects = {
        object_id: StoredObject(
            object_id=object_id,
            key_name=row["key_name"],
            request_id=row["request_id"],
            lasts=bool(row.get("objects_last", True)),
        )
        for row in sorted(rows, key=lambda row: str(row["request_id"]), reverse=True)
        for object_id in object_ids(row)
    }
    if objects:  # in one order everywhere: two processes that wrote in different orders would lock each other out
        StoredObject.objects.bulk_create([objects[key] for key in sorted(objects)], ignore_conflicts=True)


def object_ids(row: CallRecord) -> list[str]:
    """Returns the ids of the objects that a call has created, by its journal record, without values that are no ids."""
    given: object = row.get("objects")  # in a dead letter it may be anything
    return list(filter(is_object_id, given)) if isinstance(given, list) else []


def makers(wanted: Collection[str]) -> dict[str, str]:
    """Maps the ids of stored objects to the name of the key that created each; objects that no key here created are
    absent.

    For old responses and completions there is only the row of their call; then the first call with that id counts.

    Raises:
        django.db.Error: the database cannot tell.
    """
    known = dict(StoredObject.objects.filter(pk__in=wanted).values_list("object_id", "key_name"))
    others = [object_id for object_id in wanted if object_id not in known]
    if others:
        rows = Request.objects.filter(response_id__in=others, method="POST", route__in=MAKING_ROUTES)
        known |= dict(rows.order_by("-request_id").values_list("response_id", "key_name"))
    return known
