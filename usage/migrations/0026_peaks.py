"""Adds a table with the highest figures of each day, so that the log pages need not search the sums of all hours."""

from django.db import migrations, models

# What older code adds meanwhile is not in them; `ledger sum` adds it.
FILL = """
    INSERT INTO usage_usagepeak (day, max_duration_ms, max_input_tokens, max_cached_tokens, max_output_tokens)
    SELECT (hour AT TIME ZONE 'UTC')::date, max(max_duration_ms), max(max_input_tokens), max(max_cached_tokens),
           max(max_output_tokens)
    FROM usage_usagehour GROUP BY 1
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0025_smaller_sums'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsagePeak',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False)),
                ('max_duration_ms', models.FloatField()),
                ('max_input_tokens', models.BigIntegerField()),
                ('max_cached_tokens', models.BigIntegerField()),
                ('max_output_tokens', models.BigIntegerField()),
            ],
        ),
        migrations.RunSQL(["SET LOCAL statement_timeout = 0", FILL], ""),
    ]
