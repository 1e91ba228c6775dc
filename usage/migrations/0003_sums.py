"""Adds up totals and failures of the calls that are there. Old code that still runs does not add to them: when the
last of it has ended, `manage.py ledger sum` does this once more.

The statements are frozen: what they count, and in which buckets, is what the tables of this version held. They import
nothing of the project, which goes on to have other columns.
"""

from django.db import migrations

SUMS = ("input_tokens", "cached_tokens", "output_tokens", "cost", "duration_ms")
HISTOGRAMS = ("duration_ms", "upstream_ms", "overhead_ms")
BUCKET_ENDS = ", ".join(repr(0.01 * 1.1**number) for number in range(193))  # milliseconds
MINUTES_SINCE = "(now() - interval '3 days')"  # the totals of older minutes are not kept
MODEL = "COALESCE(NULLIF(response_model, ''), request_model)"
DIMENSIONS = "('all', ''), ('key', key_name), ('model', model), ('route', route), ('outcome', outcome)"
EMPTY = "'{}'::bigint[]"

# Hours and days from the sums of hours, which stay when rows are pruned; minutes from the rows of the last days.
ADD_TOTALS = f"""
    INSERT INTO usage_usagetotal (span, dimension, start, value, calls, errors, unpriced_calls, {", ".join(SUMS)},
        {", ".join(f"{name}_histogram" for name in HISTOGRAMS)})
    SELECT spans.span, groups.dimension, spans.start, groups.value, sum(calls),
        COALESCE(sum(calls) FILTER (WHERE outcome <> 'success'), 0), sum(unpriced_calls),
        {", ".join(f"COALESCE(sum({name}), 0)" for name in SUMS)}, {", ".join([EMPTY] * len(HISTOGRAMS))}
    FROM (
        SELECT true AS is_hour, hour AS start, key_name, model, route, outcome, calls, unpriced_calls,
            {", ".join(SUMS)}
        FROM usage_usagehour
        UNION ALL
        SELECT false, started_at, key_name, {MODEL}, route, outcome, 1, (cost IS NULL)::int, {", ".join(SUMS)}
        FROM usage_request WHERE started_at >= {MINUTES_SINCE}
    ) AS counted,
    LATERAL (VALUES ('hour', date_trunc('hour', start, 'UTC'), is_hour), ('day', date_trunc('day', start, 'UTC'), is_hour),
        ('minute', date_trunc('minute', start, 'UTC'), NOT is_hour)) AS spans (span, start, is_wanted),
    LATERAL (VALUES {DIMENSIONS}) AS groups (dimension, value)
    WHERE spans.is_wanted
    GROUP BY 1, 2, 3, 4
"""
# Of one call that failed, a row that was pruned is no longer there: days with such rows keep the counts that they have.
FAILURES_SINCE = """
    (SELECT COALESCE(max(date_trunc('day', pruned_before - interval '1 microsecond', 'UTC') + interval '1 day'),
        '-infinity') FROM usage_ledgerstate)
"""
DELETE_FAILURES = f"DELETE FROM usage_errortotal WHERE start >= {FAILURES_SINCE}"
ADD_FAILURES = f"""
    INSERT INTO usage_errortotal (span, start, outcome, status, error_code, model, route, key_name, calls, first_at,
        last_at, sample_id)
    SELECT spans.span, spans.start, outcome, COALESCE(status, 0), error_code, {MODEL}, route, key_name, count(*),
        min(started_at), max(started_at), max(request_id::text)::uuid
    FROM usage_request,
    LATERAL (VALUES ('hour', date_trunc('hour', started_at, 'UTC')), ('day', date_trunc('day', started_at, 'UTC')))
        AS spans (span, start)
    WHERE outcome <> 'success' AND started_at >= {FAILURES_SINCE}
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def add_histogram(name):
    """Returns the statement that fills a histogram in the totals of all calls: a count for each bucket from the first."""
    return f"""
        WITH counted AS (
            SELECT span, start, bucket, sum(calls) AS calls FROM (
                SELECT spans.span, spans.start, number - 1 AS bucket, counts.calls
                FROM usage_usagehour, unnest({name}_histogram) WITH ORDINALITY AS counts (calls, number),
                LATERAL (VALUES ('hour', hour), ('day', date_trunc('day', hour, 'UTC'))) AS spans (span, start)
                UNION ALL
                SELECT 'minute', date_trunc('minute', started_at, 'UTC'),
                    width_bucket({name}, ARRAY[{BUCKET_ENDS}]::float8[]), 1
                FROM usage_request WHERE {name} IS NOT NULL AND started_at >= {MINUTES_SINCE}
            ) AS calls GROUP BY 1, 2, 3
        )
        UPDATE usage_usagetotal AS total SET {name}_histogram = (
            SELECT array_agg(COALESCE(counted.calls, 0)::bigint ORDER BY number)
            FROM generate_series(0, size.last) AS number
            LEFT JOIN counted ON counted.span = size.span AND counted.start = size.start AND counted.bucket = number
        )
        FROM (SELECT span, start, max(bucket) AS last FROM counted GROUP BY 1, 2) AS size
        WHERE total.span = size.span AND total.start = size.start AND total.dimension = 'all'
    """


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0002_totals"),
    ]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '30s'", ""),
        # Writers add to the hours in the transaction that inserts rows: under this lock only whole batches are seen.
        migrations.RunSQL("LOCK TABLE usage_usagehour IN SHARE MODE", ""),
        migrations.RunSQL("DELETE FROM usage_usagetotal", ""),
        migrations.RunSQL(ADD_TOTALS, ""),
        *(migrations.RunSQL(add_histogram(name), "") for name in HISTOGRAMS),
        migrations.RunSQL(DELETE_FAILURES, ""),
        migrations.RunSQL(ADD_FAILURES, ""),
    ]
