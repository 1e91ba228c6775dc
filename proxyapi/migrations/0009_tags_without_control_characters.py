"""Makes the models refuse control characters in tags of keys and teams; changes no table."""

import django.contrib.postgres.fields
import proxyapi.team_models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxyapi', '0008_api_tokens'),
    ]

    operations = [
        migrations.AlterField(
            model_name='accesskey',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Copied onto each call, for filtering and reports.', size=None, validators=[proxyapi.team_models.check_tags]),
        ),
        migrations.AlterField(
            model_name='team',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Copied onto each call, for filtering and reports.', size=None, validators=[proxyapi.team_models.check_tags]),
        ),
    ]
