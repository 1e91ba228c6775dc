"""Changes a label only; runs no SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0022_leases'),
    ]

    operations = [
        migrations.AlterField(
            model_name='modelprice',
            name='valid_from',
            field=models.DateTimeField(help_text='In UTC. The price is for calls that begin at this time or later.'),
        ),
    ]
