from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0013_known_names'),
    ]

    operations = [
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('unknown_model', True)), fields=['request_id'], name='usage_request_unknown'),
        ),
    ]
