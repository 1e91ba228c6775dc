"""Adds a table with the names of keys, models and routes for lists of choices, and small histograms of these.

`ledger sum` fills the histograms of the past, because a start should not wait for them. Until then, pages show a dash
instead of a percentile. The names are filled in here, before the new column locks the totals.
"""

import django.contrib.postgres.fields
from django.db import migrations, models

LEARN_NAMES = """
    INSERT INTO usage_summedname (dimension, value)
    SELECT DISTINCT dimension, value FROM usage_usagetotal
    WHERE span = 'day' AND dimension IN ('key', 'model', 'route')
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0024_months'),
    ]

    operations = [
        migrations.CreateModel(
            name='SummedName',
            fields=[
                ('pk', models.CompositePrimaryKey('dimension', 'value', blank=True, editable=False, primary_key=True, serialize=False)),
                ('dimension', models.CharField(choices=[('all', 'All'), ('key', 'Key'), ('model', 'Model'), ('route', 'Route'), ('outcome', 'Outcome')], max_length=7)),
                ('value', models.CharField(max_length=200)),
            ],
        ),
        migrations.RunSQL(["SET LOCAL statement_timeout = 0", LEARN_NAMES], ""),
        migrations.AddField(
            model_name='ledgerstate',
            name='histograms_emptied_before',
            field=models.DateTimeField(help_text='The sums of hours before this time have no histograms.', null=True),
        ),
        migrations.AddField(
            model_name='usagetotal',
            name='durations',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), db_default=[], default=list, help_text='A packed histogram.', size=None),
        ),
    ]
