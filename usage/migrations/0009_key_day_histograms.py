"""Fills the new histograms of each key's days from the calls.

Old code that is still running does not add to them. When the last of it has ended, run `manage.py ledger sum`.
"""

from django.db import migrations

HISTOGRAMS = ('duration_ms', 'upstream_ms', 'overhead_ms')


def add_up(name):
    return f"""
        UPDATE usage_usagetotal AS total SET {name}_histogram = counted.histogram FROM (
            SELECT day, key_name, array_agg(calls ORDER BY bucket) AS histogram FROM (
                SELECT date_trunc('day', hour, 'UTC') AS day, key_name, bucket, sum(counts.calls)::bigint AS calls
                FROM usage_usagehour, unnest({name}_histogram) WITH ORDINALITY AS counts(calls, bucket)
                GROUP BY 1, 2, 3
            ) AS sums GROUP BY 1, 2
        ) AS counted
        WHERE total.span = 'day' AND total.dimension = 'key' AND total.start = counted.day
            AND total.value = counted.key_name
    """


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0008_error_first_seen'),
    ]

    operations = [
        migrations.RunSQL("LOCK TABLE usage_usagehour IN SHARE MODE", ""),
        *(migrations.RunSQL(add_up(name), "") for name in HISTOGRAMS),
    ]
