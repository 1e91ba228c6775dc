"""Keeps the names counted so far: models that have answered, and the most frequent error codes, get known names."""

from django.db import migrations, models

LEARN_MODELS = """
    INSERT INTO usage_knownname (kind, name, learnt_on)
    SELECT 'model', value, (now() AT TIME ZONE 'UTC')::date - 1 FROM usage_usagetotal
    WHERE span = 'day' AND dimension = 'model' AND value <> '' GROUP BY value HAVING sum(calls) > sum(errors)
"""
LEARN_CODES = """
    INSERT INTO usage_knownname (kind, name, learnt_on)
    SELECT 'code', error_code, (now() AT TIME ZONE 'UTC')::date - 1 FROM usage_errortotal
    WHERE span = 'day' AND error_code <> '' GROUP BY error_code ORDER BY sum(calls) DESC LIMIT 1000
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0012_by_gateway'),
    ]

    operations = [
        migrations.CreateModel(
            name='KnownName',
            fields=[
                ('pk', models.CompositePrimaryKey('kind', 'name', blank=True, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=5)),
                ('name', models.CharField(max_length=200)),
                ('learnt_on', models.DateField(db_index=True, help_text="The day (UTC) on which the name became known, by the database's clock.")),
            ],
        ),
        migrations.RunSQL(LEARN_MODELS, ""),
        migrations.RunSQL(LEARN_CODES, ""),
        migrations.AddField(
            model_name='request',
            name='unknown_model',
            field=models.BooleanField(db_default=False, default=False, help_text='The sums have the call under (unknown model).'),
        ),
        migrations.AddField(
            model_name='request',
            name='other_code',
            field=models.BooleanField(db_default=False, default=False, help_text='The sums have the call under (other code).'),
        ),
    ]
