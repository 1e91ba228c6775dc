"""Adds sums of calls by all labels together, for reports by two labels.

The tables are empty at first: the thread that deletes old rows adds up past days and months, soon after the start.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0036_error_param'),
    ]

    operations = [
        migrations.CreateModel(
            name='LabelPeriod',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('first', models.DateField()),
                ('until', models.DateField()),
                ('is_summed', models.BooleanField()),
                ('has_others', models.BooleanField()),
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
            options={
                'constraints': [models.UniqueConstraint(fields=('first', 'until'), name='usage_labelperiod_once')],
            },
        ),
        migrations.CreateModel(
            name='LabelCombination',
            fields=[
                ('pk', models.CompositePrimaryKey('period_id', 'number', blank=True, editable=False, primary_key=True, serialize=False)),
                ('number', models.IntegerField()),
                ('key_name', models.CharField(max_length=200)),
                ('team', models.CharField(max_length=200)),
                ('owner', models.CharField(max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('route', models.CharField(max_length=100)),
                ('end_user', models.CharField(max_length=200)),
                ('tags', models.TextField()),
                ('calls', models.BigIntegerField()),
                ('errors', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('cached_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=8, max_digits=20)),
                ('estimated_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('provisional_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('period', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='usage.labelperiod')),
            ],
        ),
    ]
