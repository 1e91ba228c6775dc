"""Adds a column for the supposed usage. Old code that is still running leaves it out: nothing is supposed."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0018_output_limit'),
    ]

    operations = [
        migrations.AddField(
            model_name='pendingresponse',
            name='supposed',
            field=models.JSONField(help_text='The token counts to use if upstream never states the usage.', null=True),
        ),
    ]
