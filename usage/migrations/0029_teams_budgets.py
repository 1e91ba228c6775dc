"""Adds sums of teams' days, and leases of teams' budgets. Old code that is still running writes neither."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0028_packed_hours'),
    ]

    operations = [
        migrations.CreateModel(
            name='TeamDay',
            fields=[
                ('pk', models.CompositePrimaryKey('team', 'day', blank=True, editable=False, primary_key=True, serialize=False)),
                ('team', models.CharField(max_length=200)),
                ('day', models.DateField()),
                ('calls', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=8, max_digits=20)),
                ('estimated_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('provisional_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
            ],
        ),
        migrations.AddField(
            model_name='hold',
            name='team',
            field=models.CharField(db_default='', default='', max_length=200),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('team', ''), _negated=True), fields=['team'], name='usage_hold_team'),
        ),
    ]
