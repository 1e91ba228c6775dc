from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Concurrently: shippers go on adding to the table."""

    atomic = False

    dependencies = [
        ('usage', '0002_hold'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='usageday',
            index=models.Index(fields=['key_name', 'day'], name='usage_usageday_key'),
        ),
    ]
