from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0031_label_totals'),
    ]

    operations = [
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('team', ''), _negated=True), fields=['team', 'request_id'], name='usage_request_team'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('owner', ''), _negated=True), fields=['owner', 'request_id'], name='usage_request_owner'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('end_user', ''), _negated=True), fields=['end_user', 'request_id'], name='usage_request_end_user'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('session', ''), _negated=True), fields=['session', 'request_id'], name='usage_request_session'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('tags', []), _negated=True), fields=['request_id'], name='usage_request_tagged'),
        ),
    ]
