"""Old code that still runs writes rows without this column: nothing is supposed of their usage."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0018_output_limit'),
    ]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '30s'", ""),
        migrations.AddField(
            model_name='pendingresponse',
            name='supposed',
            field=models.JSONField(help_text='Counts that stand for its usage if upstream never states it.', null=True),
        ),
    ]
