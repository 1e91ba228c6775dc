"""Fills the new tables of sums with the totals, and the failed calls, of all existing calls.

Old code that is still running does not add to these tables. When the last of it has ended, run `manage.py ledger sum`.

The statements are a frozen copy of `usage.upkeep.rebuild_totals` as it was when this migration was written, since
today's code needs columns that later migrations add.
"""

from django.db import migrations

SUMS = ('calls', 'unpriced_calls', 'input_tokens', 'cached_tokens', 'output_tokens', 'cost', 'duration_ms')
HISTOGRAMS = ('duration_ms', 'upstream_ms', 'overhead_ms')
BUCKET_ENDS = [0.01 * 1.1**number for number in range(193)]  # milliseconds

MODEL = "COALESCE(NULLIF(response_model, ''), request_model)"
GROUPS = """
    LATERAL (VALUES ('all', ''), ('key', key_name), ('model', {model}), ('route', route), ('outcome', outcome)
    ) AS groups (dimension, value)
"""
HOUR_SPANS = "LATERAL (VALUES ('hour', hour), ('day', date_trunc('day', hour, 'UTC'))) AS spans (span, start)"
NO_HISTOGRAMS = ', '.join("'{}'" for _ in HISTOGRAMS)
INSERT_TOTALS = f"""
    INSERT INTO usage_usagetotal (span, dimension, start, value, errors, {', '.join(SUMS)},
                                  {', '.join(f'{name}_histogram' for name in HISTOGRAMS)})
"""

TOTALS_OF_HOURS_AND_DAYS = f"""
    {INSERT_TOTALS}
    SELECT span, dimension, start, value, COALESCE(sum(calls) FILTER (WHERE outcome <> 'success'), 0),
           {', '.join(f'sum({name})' for name in SUMS)}, {NO_HISTOGRAMS}
    FROM usage_usagehour, {HOUR_SPANS}, {GROUPS.format(model='model')}
    GROUP BY span, dimension, start, value
"""
# The totals of minutes are kept for three days.
TOTALS_OF_MINUTES = f"""
    {INSERT_TOTALS}
    SELECT 'minute', dimension, date_trunc('minute', started_at, 'UTC'), value,
           count(*) FILTER (WHERE outcome <> 'success'), count(*), count(*) FILTER (WHERE cost IS NULL),
           {', '.join(f'COALESCE(sum({name}), 0)' for name in SUMS[2:])}, {NO_HISTOGRAMS}
    FROM usage_request, {GROUPS.format(model=MODEL)}
    WHERE started_at >= now() - interval '3 days'
    GROUP BY 2, 3, 4
"""
FAILURES = f"""
    INSERT INTO usage_errortotal (span, start, outcome, status, error_code, model, route, key_name,
                                  calls, first_at, last_at, sample_id)
    SELECT span, start, outcome, COALESCE(status, 0), error_code, {MODEL}, route, key_name,
           count(*), min(started_at), max(started_at), (array_agg(request_id ORDER BY request_id DESC))[1]
    FROM usage_request,
         LATERAL (VALUES ('hour', date_trunc('hour', started_at, 'UTC')), ('day', date_trunc('day', started_at, 'UTC'))
         ) AS spans (span, start)
    WHERE outcome <> 'success' AND started_at >= COALESCE(
        -- The first whole day of which no row has been pruned.
        (SELECT max(date_trunc('day', pruned_before - interval '1 microsecond', 'UTC') + interval '1 day')
         FROM usage_ledgerstate),
        '-infinity'
    )
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def histogram_of_hours(name):
    """Returns the SQL statement that fills the histogram `name` of the hourly and daily totals of all calls."""
    return f"""
        UPDATE usage_usagetotal AS total SET {name}_histogram = counted.histogram FROM (
            SELECT span, start, array_agg(calls ORDER BY bucket) AS histogram FROM (
                SELECT span, start, bucket, sum(counts.calls)::bigint AS calls
                FROM usage_usagehour, unnest({name}_histogram) WITH ORDINALITY AS counts (calls, bucket), {HOUR_SPANS}
                GROUP BY span, start, bucket
            ) AS sums GROUP BY span, start
        ) AS counted
        WHERE total.dimension = 'all' AND total.span = counted.span AND total.start = counted.start
    """


def histogram_of_minutes(name):
    """Returns the SQL statement that fills the histogram `name` of the totals of all calls by minute.

    The statement's parameter is the list of bucket ends in milliseconds.
    """
    return f"""
        WITH counted AS (
            SELECT date_trunc('minute', started_at, 'UTC') AS start, width_bucket({name}, %s::float8[]) AS bucket,
                   count(*) AS calls
            FROM usage_request WHERE started_at >= now() - interval '3 days' AND {name} IS NOT NULL GROUP BY 1, 2
        ), filled AS (
            SELECT start, array_agg(COALESCE(calls, 0) ORDER BY bucket) AS histogram
            FROM (SELECT start, generate_series(0, max(bucket)) AS bucket FROM counted GROUP BY start) AS buckets
            LEFT JOIN counted USING (start, bucket) GROUP BY start
        )
        UPDATE usage_usagetotal AS total SET {name}_histogram = filled.histogram FROM filled
        WHERE total.span = 'minute' AND total.dimension = 'all' AND total.start = filled.start
    """


def add_up(apps, schema_editor):
    if not apps.get_model('usage', 'UsageHour').objects.exists():
        return
    with schema_editor.connection.cursor() as cursor:
        # Writers add to the hours in the transaction that inserts rows, so under this lock only whole batches are seen.
        cursor.execute('LOCK TABLE usage_usagehour IN SHARE MODE')
        cursor.execute('DELETE FROM usage_usagetotal')
        cursor.execute('DELETE FROM usage_errortotal')
        cursor.execute(TOTALS_OF_HOURS_AND_DAYS)
        cursor.execute(TOTALS_OF_MINUTES)
        cursor.execute(FAILURES)
        for name in HISTOGRAMS:
            cursor.execute(histogram_of_hours(name))
            cursor.execute(histogram_of_minutes(name), [BUCKET_ENDS])


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0002_totals'),
    ]

    operations = [
        migrations.RunPython(add_up, migrations.RunPython.noop),
    ]
