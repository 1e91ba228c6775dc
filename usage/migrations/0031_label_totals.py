"""Adds sums of calls by team, owner, end user and tags.

The sums of past calls without labels are filled in from the sums of hours. The labels of past calls are filled in by
`ledger sum`, and so are calls that older code adds to the hours meanwhile.
"""

from django.db import migrations, models

FILL = """
    INSERT INTO usage_labeltotal (
        span, label, start, value, key_name, team, owner, model, route, calls, errors, unpriced_calls, input_tokens,
        cached_tokens, output_tokens, cost, estimated_cost, provisional_cost
    )
    SELECT span, '', (date_trunc(span, hour, 'UTC') AT TIME ZONE 'UTC')::date, '', key_name, '', '', model, route, sum(calls),
           coalesce(sum(calls) FILTER (WHERE outcome <> 'success'), 0), sum(unpriced_calls), sum(input_tokens),
           sum(cached_tokens), sum(output_tokens), sum(cost), sum(estimated_cost), sum(provisional_cost)
    FROM usage_usagehour, (VALUES ('day'), ('month')) AS spans (span) GROUP BY 1, 3, key_name, model, route
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0030_breakdowns'),
    ]

    operations = [
        migrations.CreateModel(
            name='LabelTotal',
            fields=[
                ('pk', models.CompositePrimaryKey('span', 'label', 'start', 'value', 'key_name', 'team', 'owner', 'model', 'route', blank=True, editable=False, primary_key=True, serialize=False)),
                ('span', models.CharField(max_length=5)),
                ('label', models.CharField(max_length=110)),
                ('start', models.DateField()),
                ('value', models.CharField(max_length=200)),
                ('key_name', models.CharField(max_length=200)),
                ('team', models.CharField(max_length=200)),
                ('owner', models.CharField(max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('route', models.CharField(max_length=100)),
                ('calls', models.BigIntegerField()),
                ('errors', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('cached_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=8, max_digits=20)),
                ('estimated_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('provisional_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
            ],
        ),
        migrations.RunSQL(["SET LOCAL statement_timeout = 0", FILL], ""),
    ]
