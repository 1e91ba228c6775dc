from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0009_key_day_histograms'),
    ]

    operations = [
        migrations.CreateModel(
            name='StoredObject',
            fields=[
                ('object_id', models.CharField(help_text="The id that upstream gave to the object.", max_length=512, primary_key=True, serialize=False)),
                ('key_name', models.CharField(max_length=200)),
                ('request_id', models.UUIDField(help_text='The call that made it.')),
                ('lasts', models.BooleanField(default=True, help_text='Upstream keeps it until it is deleted.')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('lasts', False)), fields=['request_id'], name='usage_storedobject_short')],
            },
        ),
    ]
