"""Measures how much disk space the tables of a ledger take."""

from __future__ import annotations

from django.db.backends.utils import CursorWrapper

from bench.reporting.names import BODIES, CALLS, INDEXES, RESPONSES, SUMS

# For each part: its tables, and the function by which PostgreSQL tells their size in bytes.
PARTS = {
    CALLS: ("pg_table_size", ("usage_request",)),
    INDEXES: ("pg_indexes_size", ("usage_request",)),
    RESPONSES: ("pg_total_relation_size", ("usage_countedresponse", "usage_storedobject")),
    BODIES: ("pg_total_relation_size", ("usage_requestbody",)),
    SUMS: (
        "pg_total_relation_size",
        (
            "usage_usagehour",
            "usage_usagetotal",
            "usage_usagebreakdown",
            "usage_usageday",
            "usage_usagepeak",
            "usage_errortotal",
            "usage_teamday",
            "usage_labeltotal",
            "usage_labelgrandtotal",
            "usage_labelcombination",
        ),
    ),
}


def megabytes(cursor: CursorWrapper) -> dict[str, float]:
    """Returns how many megabytes (1,000,000 bytes) each of `PARTS` takes of the disk, partitions included."""
    found: dict[str, float] = {}
    for part, (size, tables) in PARTS.items():
        cursor.execute(
            f"SELECT sum({size}(relation)) FROM ("
            " SELECT unnest(%(tables)s::regclass[]) UNION"
            " SELECT relid FROM unnest(%(tables)s::regclass[]) AS one, pg_partition_tree(one)) AS every (relation)",
            {"tables": list(tables)},
        )
        found[part] = float(cursor.fetchone()[0]) / 1e6
    return found
