"""Adds sums of months, and sums by model, route and outcome; `ledger sum` fills those of the past.

Until then, and for calls that older code adds meanwhile, pages read the finer sums, as before.
"""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0029_teams_budgets'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageBreakdown',
            fields=[
                ('pk', models.CompositePrimaryKey('span', 'dimension', 'start', 'value', 'model', 'route', 'outcome', blank=True, editable=False, primary_key=True, serialize=False)),
                ('span', models.CharField(choices=[('minute', 'Minute'), ('hour', 'Hour'), ('day', 'Day'), ('month', 'Month')], max_length=6)),
                ('dimension', models.CharField(choices=[('all', 'All'), ('key', 'Key'), ('model', 'Model'), ('route', 'Route'), ('outcome', 'Outcome')], max_length=7)),
                ('start', models.DateTimeField()),
                ('value', models.CharField(help_text='Empty for all calls.', max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('route', models.CharField(max_length=100)),
                ('outcome', models.CharField(choices=[('success', 'success'), ('upstream_error', 'upstream error'), ('timeout', 'timeout'), ('unreachable', 'unreachable'), ('client_cancelled', 'caller left'), ('rejected', 'rejected'), ('interrupted', 'interrupted')], max_length=20)),
                ('calls', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('cached_tokens', models.BigIntegerField()),
                ('cache_write_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('reasoning_tokens', models.BigIntegerField()),
                ('audio_input_tokens', models.BigIntegerField()),
                ('audio_output_tokens', models.BigIntegerField()),
                ('audio_seconds', models.FloatField()),
                ('web_searches', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=8, max_digits=20)),
                ('estimated_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('provisional_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('duration_ms', models.FloatField()),
                ('durations', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), db_default=[], default=list, help_text='A packed histogram.', size=None)),
            ],
        ),
        migrations.AlterField(
            model_name='errortotal',
            name='span',
            field=models.CharField(choices=[('minute', 'Minute'), ('hour', 'Hour'), ('day', 'Day'), ('month', 'Month')], max_length=6),
        ),
        migrations.AlterField(
            model_name='usagetotal',
            name='span',
            field=models.CharField(choices=[('minute', 'Minute'), ('hour', 'Hour'), ('day', 'Day'), ('month', 'Month')], max_length=6),
        ),
    ]
