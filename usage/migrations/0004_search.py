import django.contrib.postgres.indexes
import django.db.models.functions.comparison
from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations, models

from usage.database.concurrent_indexes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0003_sums'),
    ]

    operations = [
        AddIndex(
            model_name='request',
            index=django.contrib.postgres.indexes.HashIndex(condition=models.Q(('upstream_request_id', ''), _negated=True), fields=['upstream_request_id'], name='usage_request_upstream'),
        ),
        AddIndex(
            model_name='request',
            index=django.contrib.postgres.indexes.HashIndex(condition=models.Q(('incoming_request_id', ''), _negated=True), fields=['incoming_request_id'], name='usage_request_incoming'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(fields=['key_name', 'request_id'], name='usage_request_key'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(django.db.models.functions.comparison.Coalesce(django.db.models.functions.comparison.NullIf('response_model', models.Value('')), 'request_model'), models.F('request_id'), name='usage_request_model'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(fields=['route', 'request_id'], name='usage_request_route'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('status__gte', 300)), fields=['status', 'request_id'], name='usage_request_status'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('outcome', 'success'), _negated=True), fields=['error_code', 'request_id'], name='usage_request_code'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(condition=models.Q(('outcome', 'success'), _negated=True), fields=['request_id'], name='usage_request_failures'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(fields=['cost'], include=('request_id',), name='usage_request_cost'),
        ),
        AddIndex(
            model_name='request',
            index=models.Index(fields=['duration_ms'], include=('request_id',), name='usage_request_duration'),
        ),
        RemoveIndexConcurrently(
            model_name='request',
            name='usage_request_started',
        ),
        RemoveIndexConcurrently(
            model_name='request',
            name='usage_request_failed',
        ),
    ]
