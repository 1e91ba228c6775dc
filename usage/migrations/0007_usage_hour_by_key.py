from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0006_usage_day_by_key'),
    ]

    operations = [
        AddIndex(
            model_name='usagehour',
            index=models.Index(fields=['key_name', 'hour'], name='usage_usagehour_key'),
        ),
    ]
