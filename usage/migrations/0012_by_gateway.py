"""Adds a column that marks rows of polls. Old code that is still running leaves it out, and its rows count as calls."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0011_database_clock'),
    ]

    operations = [
        migrations.AddField(
            model_name='request',
            name='by_gateway',
            field=models.BooleanField(db_default=False, default=False, help_text="A poll for a background response. It counts as no call of the key, but with its usage and cost.", verbose_name='made by the gateway'),
        ),
    ]
