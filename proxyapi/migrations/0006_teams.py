"""Makes the tables of teams and of their members, and lets a key belong to a team."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import proxyapi.key_names
import proxyapi.team_models
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxyapi', '0005_key_labels'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Team',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='Shown in logs and reports. Cannot be changed later.', max_length=200, unique=True, validators=[proxyapi.key_names.check_name])),
                ('comparable_name', models.CharField(editable=False, max_length=600, null=True, unique=True)),
                ('note', models.TextField(blank=True)),
                ('tags', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Copied onto each call, for filtering and reports.', size=None)),
                ('active', models.BooleanField(default=True, help_text='Off: calls are refused until it is on again.')),
                ('allowed_models', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), blank=True, default=list, help_text='Names or patterns such as gpt-4o*. Upper and lower case differ. Leave empty to allow all models.', size=None)),
                ('allowed_routes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=100), blank=True, default=list, help_text='Routes or patterns such as /openai or /v1/responses*. Leave empty to allow all routes.', size=None, validators=[proxyapi.team_models.check_routes])),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('tokens_per_minute', models.PositiveBigIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('parallel_calls', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('budget_day', models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for a day in UTC.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='budget per day')),
                ('budget_month', models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for a month in UTC.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='budget per month')),
                ('budget_total', models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for all calls.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='lifetime budget')),
                ('log_bodies', models.CharField(choices=[('inherit', 'server default'), ('all', 'all'), ('errors', 'failed calls only'), ('none', 'none')], default='inherit', max_length=10, verbose_name='store prompts and answers')),
                ('sealed_upstream_key', models.TextField(blank=True, editable=False, help_text='Encrypted (proxyapi.sealing).')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
                ('self_service', models.BooleanField(default=False, help_text='Off: only leads and key managers make keys.', verbose_name='members make their own keys')),
                ('keys_per_member', models.PositiveIntegerField(blank=True, help_text='How many active keys a member may have made. Leave empty for no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('member_key_budget_month', models.DecimalField(blank=True, decimal_places=4, help_text='In dollars. A key that a member makes must then have a budget per month. Leave empty for no limit.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='highest budget per month of such a key')),
            ],
            options={
                'ordering': ('name',),
                'abstract': False,
                'default_permissions': ('add', 'change', 'view'),
            },
        ),
        migrations.AlterField(
            model_name='accesskey',
            name='budget_total',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='In dollars, for all calls.', max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='lifetime budget'),
        ),
        migrations.AddField(
            model_name='accesskey',
            name='team',
            field=models.ForeignKey(blank=True, help_text='Its budgets and limits hold for all its keys together. Moving a key moves only its later calls.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='proxyapi.team'),
        ),
        migrations.CreateModel(
            name='TeamMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('member', 'member'), ('lead', 'lead')], default='member', max_length=10)),
                ('team', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='proxyapi.team')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'member',
            },
        ),
        migrations.AddField(
            model_name='team',
            name='members',
            field=models.ManyToManyField(related_name='teams', through='proxyapi.TeamMember', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='teammember',
            constraint=models.UniqueConstraint(fields=('team', 'user'), name='proxyapi_teammember_once'),
        ),
    ]
