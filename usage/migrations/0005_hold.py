import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0004_search'),
    ]

    operations = [
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('request_id', models.UUIDField(primary_key=True, serialize=False)),
                ('key_name', models.CharField(max_length=200)),
                ('day', models.DateField(help_text="Of the call's start (UTC): the day whose budget it is held of.")),
                ('dollars', models.DecimalField(decimal_places=8, max_digits=20)),
                ('made_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'indexes': [models.Index(fields=['key_name'], name='usage_hold_key')],
            },
        ),
    ]
