from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0005_hold'),
    ]

    operations = [
        AddIndex(
            model_name='usageday',
            index=models.Index(fields=['key_name', 'day'], name='usage_usageday_key'),
        ),
    ]
