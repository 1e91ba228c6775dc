"""Changes an index, since the first time of an error is now searched by its code, not by its model and route."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0033_error_groups'),
    ]

    operations = [
        AddIndex(
            model_name='errortotal',
            index=models.Index(condition=models.Q(('calls__gt', 0), ('span', 'day')), fields=['error_code', 'outcome', 'first_at'], name='usage_errortotal_seen'),
        ),
        RemoveIndexConcurrently(
            model_name='errortotal',
            name='usage_errortotal_first',
        ),
    ]
