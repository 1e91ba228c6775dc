import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxyapi', '0002_comparable_name'),
    ]

    operations = [
        # Old code leaves the column out.
        migrations.AddField(
            model_name='accesskey',
            name='shared_objects',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), blank=True, db_default=[], default=list, help_text='Ids or patterns such as vs_abc* or pmpt_*: objects of the account (vector stores, files, prompts) that it may read and use, but not change. Empty: only what it has made itself.', size=None),
        ),
    ]
