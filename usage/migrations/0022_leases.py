"""Adds the columns of leases. Old code leaves them out, and counts leases as reserved, since it sums all rows."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0021_labels'),
    ]

    operations = [
        migrations.AddField(
            model_name='hold',
            name='granted',
            field=models.DecimalField(db_default=0, decimal_places=8, help_text='All dollars that the lease was granted, less those given back.', max_digits=20),
        ),
        migrations.AddField(
            model_name='hold',
            name='has_spare',
            field=models.BooleanField(db_default=False, help_text='The lease may have dollars that no call uses.'),
        ),
        migrations.AddField(
            model_name='hold',
            name='recalled_at',
            field=models.DateTimeField(help_text='When another worker last asked for the dollars that no call uses.', null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='version',
            field=models.BigIntegerField(db_default=0, help_text="The number of the worker's newest statement about the lease."),
        ),
        migrations.AddField(
            model_name='hold',
            name='writer',
            field=models.CharField(db_default='', help_text="The id of the worker's journal.", max_length=40),
        ),
        migrations.AlterField(
            model_name='hold',
            name='day',
            field=models.DateField(help_text="The UTC day on which the calls began. The dollars count in the budget of this day."),
        ),
        migrations.AlterField(
            model_name='hold',
            name='made_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When the reservation was made, or the lease last renewed.'),
        ),
        migrations.AlterField(
            model_name='hold',
            name='request_id',
            field=models.UUIDField(help_text="The call's id; of a lease, an id made for it.", primary_key=True, serialize=False),
        ),
    ]
