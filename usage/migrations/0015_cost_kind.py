"""Adds columns with defaults in the database, since old code that is still running writes rows without them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0014_unknown_models'),
    ]

    operations = [
        migrations.AddField(
            model_name='request',
            name='cost_kind',
            field=models.CharField(blank=True, choices=[('exact', 'exact'), ('estimated', 'estimated'), ('provisional', 'provisional')], db_default='', default='', max_length=11),
        ),
        migrations.AddField(
            model_name='request',
            name='other_usage',
            field=models.JSONField(help_text='What upstream bills beside its usage object: pictures, searches, characters, …', null=True),
        ),
    ]
