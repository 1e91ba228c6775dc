"""Adds packed histograms of hours. Older code adds to the old column, so a histogram is the sum of both columns."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0027_what_calls_are_for'),
    ]

    operations = [
        migrations.AddField(
            model_name='usagehour',
            name='durations',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), db_default=[], default=list, help_text='Histogram of durations in milliseconds, packed.', size=None),
        ),
        migrations.AddField(
            model_name='usagehour',
            name='overheads',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), db_default=[], default=list, help_text='Histogram of the gateway overheads.', size=None),
        ),
        migrations.AddField(
            model_name='usagehour',
            name='upstream_times',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), db_default=[], default=list, help_text='Histogram of the times that upstream took.', size=None),
        ),
        migrations.AlterField(
            model_name='usagehour',
            name='duration_ms_histogram',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None),
        ),
        migrations.AlterField(
            model_name='usagehour',
            name='overhead_ms_histogram',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None),
        ),
        migrations.AlterField(
            model_name='usagehour',
            name='upstream_ms_histogram',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None),
        ),
    ]
