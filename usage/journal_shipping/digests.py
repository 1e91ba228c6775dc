"""The digest of a row, by which `ledger verify` detects that somebody changed the row after it was written.

PostgreSQL computes the digest from the stored values, both when it writes a row and when it verifies one. The digest
covers a fixed list of columns, and the list has a version. A new column needs a new version at the end of `VERSIONS`;
later rows get its digest. Older rows, and rows that older code still writes, have the digest of an older version, which
stays valid. No column states a row's version: a row counts as unchanged if its digest is right by any version, and as
changed if by none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class DigestVersion(NamedTuple):
    """One version of the row digest, a checksum that shows whether a call's row was changed after it was written.

    * `columns`: the columns in the digest, in order.
    * `marks`: boolean columns that are in the digest only if they are true. So when such a column is added to the
      table, the digests of older rows stay right.
    """

    columns: tuple[str, ...]
    marks: tuple[str, ...] = ()


_FIRST = DigestVersion(
    (
        "request_id", "incoming_request_id", "upstream_request_id", "response_id", "key_name", "method", "route",
        "request_model", "response_model", "stream", "service_tier", "status", "outcome", "error_type",
        "error_code", "error_message", "started_at", "duration_ms", "time_to_first_chunk_ms", "upstream_ms",
        "overhead_ms", "request_bytes", "response_bytes", "client_address", "user_agent", "input_tokens",
        "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_input_tokens",
        "audio_output_tokens", "audio_seconds", "web_searches", "usage", "usage_source", "cost", "price", "tags",
    ),
    marks=("by_gateway", "unknown_model", "other_code"),
)  # fmt: skip
_WITH_COST_KIND = DigestVersion((*_FIRST.columns, "other_usage", "cost_kind"), _FIRST.marks)
_WITH_OUTPUT_LIMIT = DigestVersion((*_WITH_COST_KIND.columns, "output_limit"), _FIRST.marks)
_WITH_LABELS = DigestVersion((*_WITH_OUTPUT_LIMIT.columns, "team", "owner", "end_user", "session"), _FIRST.marks)
_WITH_ERROR_GROUP = DigestVersion((*_WITH_LABELS.columns, "error_group"), _FIRST.marks)
_WITH_ERROR_PARAM = DigestVersion((*_WITH_ERROR_GROUP.columns, "error_param"), _FIRST.marks)
VERSIONS: tuple[DigestVersion, ...] = (
    _FIRST, _WITH_COST_KIND, _WITH_OUTPUT_LIMIT, _WITH_LABELS, _WITH_ERROR_GROUP, _WITH_ERROR_PARAM
)  # fmt: skip


def digest_sql(version: DigestVersion) -> str:
    """Returns the SQL expression that computes the digest of a call's row, an MD5 in hex.

    The digest is made of the columns in `version.columns`, and of the names of those in `version.marks` that are true.
    """
    marks = "".join(f" || CASE WHEN {name} THEN ' {name}' ELSE '' END" for name in version.marks)
    return f"md5(ROW({', '.join(version.columns)})::text{marks})"


def is_unchanged_sql(versions: Sequence[DigestVersion]) -> str:
    """Returns an SQL condition that is true for a call's row if nobody has changed the row since it was written.

    The row's stored digest (a checksum) must equal a digest of its present values, computed by one of the `versions` of
    the digest.
    """
    return f"({' OR '.join(f'digest = {digest_sql(version)}' for version in reversed(versions))})"


DIGEST = digest_sql(VERSIONS[-1])  # of the rows that this code writes
IS_UNCHANGED = is_unchanged_sql(VERSIONS)
UPDATE_DIGESTS = f"UPDATE usage_request SET digest = {DIGEST} WHERE request_id = ANY(%s::uuid[])"
