"""Errors are grouped by their messages, and marked as known or resolved whatever their status, model and route.

If several marks become one, the newest stays. Calls from before, and those that older code still writes, have no group
of messages; they are counted by their error code alone, also in the sums. Older code shows the codes of the sums
together with their groups, and finds no marks.
"""

from django.db import migrations, models

JOIN_MARKS = """
    DELETE FROM usage_knownerror AS older USING usage_knownerror AS newer
    WHERE (older.outcome, older.error_code) = (newer.outcome, newer.error_code)
    AND (older.marked_at, older.id) < (newer.marked_at, newer.id);
    UPDATE usage_knownerror SET status = 0, model = '', route = '';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0032_label_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='request',
            name='error_group',
            field=models.CharField(blank=True, db_default='', default='', help_text="The same for errors whose messages differ only in numbers, ids and names.", max_length=12),
        ),
        # A longer text needs no other storage, so no row and no index is written again.
        migrations.AlterField(
            model_name='errortotal',
            name='error_code',
            field=models.CharField(help_text='Followed by # and the group of the message, if it has one.', max_length=213),
        ),
        migrations.RemoveConstraint(
            model_name='knownerror',
            name='usage_knownerror_once',
        ),
        migrations.RunSQL(JOIN_MARKS, ""),
        migrations.AddField(
            model_name='knownerror',
            name='message',
            field=models.CharField(blank=True, db_default='', default='', max_length=12),
        ),
        migrations.AddField(
            model_name='knownerror',
            name='state',
            field=models.CharField(choices=[('known', 'known'), ('resolved', 'resolved')], db_default='known', default='known', max_length=8),
        ),
        migrations.AlterField(
            model_name='knownerror',
            name='marked_at',
            field=models.DateTimeField(),
        ),
        migrations.AlterField(
            model_name='knownerror',
            name='model',
            field=models.CharField(blank=True, default='', max_length=200),
        ),
        migrations.AlterField(
            model_name='knownerror',
            name='route',
            field=models.CharField(blank=True, default='', max_length=100),
        ),
        migrations.AlterField(
            model_name='knownerror',
            name='status',
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddConstraint(
            model_name='knownerror',
            constraint=models.UniqueConstraint(fields=('outcome', 'error_code', 'message', 'status', 'model', 'route'), name='usage_knownerror_one'),
        ),
    ]
