"""Adds the columns of leases. Old code leaves them out, and counts leases as reserved, since it sums all rows."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0021_labels'),
    ]

    operations = [
        # What waits for a lock longer than this gives up instead of blocking calls.
        migrations.RunSQL("SET LOCAL lock_timeout = '30s'", ""),
        migrations.AddField(
            model_name='hold',
            name='granted',
            field=models.DecimalField(db_default=0, decimal_places=8, help_text='All that it has got, less what it has given back.', max_digits=20),
        ),
        migrations.AddField(
            model_name='hold',
            name='has_spare',
            field=models.BooleanField(db_default=False, help_text='Dollars may be in it that no call uses.'),
        ),
        migrations.AddField(
            model_name='hold',
            name='recalled_at',
            field=models.DateTimeField(help_text='When another worker last needed what no call uses.', null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='version',
            field=models.BigIntegerField(db_default=0, help_text="Of the worker's newest statement about it."),
        ),
        migrations.AddField(
            model_name='hold',
            name='writer',
            field=models.CharField(db_default='', help_text='The worker, by the id of its journal.', max_length=40),
        ),
        migrations.AlterField(
            model_name='hold',
            name='day',
            field=models.DateField(help_text="Of the calls' start (UTC): the day whose budget it is held of."),
        ),
        migrations.AlterField(
            model_name='hold',
            name='made_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When it was made or, of a lease, renewed.'),
        ),
        migrations.AlterField(
            model_name='hold',
            name='request_id',
            field=models.UUIDField(help_text="Of the call, or an id of the lease's own.", primary_key=True, serialize=False),
        ),
    ]
