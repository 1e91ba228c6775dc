from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0007_usage_hour_by_key'),
    ]

    operations = [
        AddIndex(
            model_name='errortotal',
            index=models.Index(
                condition=models.Q(('span', 'day')),
                fields=['error_code', 'outcome', 'status', 'model', 'route', 'first_at'],
                name='usage_errortotal_first',
            ),
        ),
    ]
