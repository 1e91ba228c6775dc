"""Changes only labels and help texts, which no database column stores; runs no SQL."""

import django.contrib.postgres.fields
import django.core.validators
import proxyapi.key_names
import proxyapi.team_models
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxyapi', '0004_output_tokens'),
    ]

    operations = [
        migrations.AlterField(
            model_name='accesskey',
            name='allowed_models',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), blank=True, default=list, help_text='Names or patterns such as gpt-4o*. Upper and lower case differ. Leave empty to allow all models.', size=None),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='allowed_routes',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Routes or patterns such as /openai or /v1/responses*. Leave empty to allow all routes.', size=None, validators=[proxyapi.team_models.check_routes]),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='budget_day',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for a day in UTC.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='budget per day'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='budget_month',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for a month in UTC.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='budget per month'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='budget_total',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for all calls of the key.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='lifetime budget'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='expires_at',
            field=models.DateTimeField(blank=True, help_text='In UTC. Leave empty for no expiry.', null=True),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='log_bodies',
            field=models.CharField(choices=[('inherit', 'server default'), ('all', 'all'), ('errors', 'failed calls only'), ('none', 'none')], default='inherit', max_length=10, verbose_name='store prompts and answers'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='max_output_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='A call that sets no limit gets this one. A call that asks for more is refused.', null=True, validators=[django.core.validators.MinValueValidator(16)], verbose_name='maximum output tokens per call'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='min_output_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='For keys with a budget. A call that sets no limit gets the highest limit that the budget can still pay for. If that is less than this, the call is refused. Leave empty for 1,000.', null=True, validators=[django.core.validators.MinValueValidator(16)], verbose_name='minimum output tokens per call'),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='name',
            field=models.CharField(help_text='Shown in logs and reports. Cannot be changed later.', max_length=200, unique=True, validators=[proxyapi.key_names.check_name]),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='owner',
            field=models.CharField(blank=True, help_text='The person or team that uses the key.', max_length=200),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='shared_objects',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), blank=True, db_default=[], default=list, help_text='Ids or patterns such as vs_abc* or pmpt_*: objects of the account (vector stores, files, prompts) that the key may read and use, but not change. Leave empty to allow only objects that it has made itself.', size=None),
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Copied onto each call, for filtering and reports.', size=None),
        ),
    ]
