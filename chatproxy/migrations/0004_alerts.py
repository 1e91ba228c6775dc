"""Creates the tables of alerts and rules with usual thresholds; gives the roles the permissions for them.

A group with a role's name that lacks one of the role's first permissions is somebody's own, and is not changed.
"""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

# Kind, threshold, window in minutes.
RULES = (
    ("budget", 80, None),
    ("budget", 100, None),
    ("budget_refusals", 1, 60),
    ("error_rate", 5, 60),
    ("upstream_down", None, 2),
    ("upstream_slow", 3, 60),
    ("backlog", 300, None),
    ("shipper", None, 5),
    ("database", None, 3),
    ("disk", 10, 5),
    ("unpriced", 1, 1440),
    ("key_expiry", 7, None),
    ("login", 1, 15),
)
SEES = ("view_alert",)
# The permission by which the group of a role is recognised, and what the role gets.
ROLES = {
    "viewer": ("view_request", SEES),
    "analyst": ("view_requestbody", SEES),
    "key manager": ("change_accesskey", SEES),
    "admin": (
        "change_group",
        (
            *SEES,
            "view_alertmessage",
            *(f"{action}_{table}" for table in ("alertrule", "alertchannel") for action in ("view", "add", "change", "delete")),
        ),
    ),
}


def make_rules(apps, schema_editor):
    AlertRule = apps.get_model("chatproxy", "AlertRule")
    for kind, threshold, window in RULES:  # one by one: with `array_nulls` off, a list of values has no nulls
        AlertRule.objects.create(kind=kind, threshold=threshold, window_minutes=window)


def grant_permissions(apps, schema_editor):
    config = apps.get_app_config("chatproxy")
    config.models_module = True  # a state's app has none, and none would mean that it has no models
    create_permissions(config, verbosity=0, interactive=False, using=schema_editor.connection.alias, apps=apps)
    config.models_module = None
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, (known_by, codenames) in ROLES.items():
        for group in Group.objects.filter(name=name, permissions__codename=known_by):
            group.permissions.add(
                *Permission.objects.filter(content_type__app_label="chatproxy", codename__in=codenames)
            )


class Migration(migrations.Migration):

    dependencies = [
        ('chatproxy', '0003_secret_canary'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(blank=True, max_length=300)),
                ('host', models.CharField(blank=True, max_length=300)),
                ('title', models.CharField(max_length=300)),
                ('detail', models.TextField(blank=True)),
                ('page', models.TextField(blank=True, help_text='The path of the page with details.')),
                ('since', models.DateTimeField(verbose_name='since (UTC)')),
                ('resolved_at', models.DateTimeField(null=True, verbose_name='resolved (UTC)')),
                ('sent_at', models.DateTimeField(help_text='When messages about it were last written.', null=True, verbose_name='sent (UTC)')),
            ],
            options={
                'ordering': ('-since', '-pk'),
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='AlertChannel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('kind', models.CharField(choices=[('webhook', 'Webhook (signed JSON)'), ('slack', 'Slack'), ('teams', 'Microsoft Teams'), ('email', 'E-mail')], max_length=10)),
                ('enabled', models.BooleanField(default=True)),
                ('recipients', django.contrib.postgres.fields.ArrayField(base_field=models.EmailField(max_length=254), blank=True, default=list, help_text='E-mail addresses. For e-mail only.', size=None)),
                ('quiet_from', models.TimeField(blank=True, help_text='In UTC. From then until the end of the quiet time, messages wait.', null=True)),
                ('quiet_until', models.TimeField(blank=True, help_text='In UTC. May be on the next day.', null=True)),
                ('host', models.CharField(blank=True, editable=False, max_length=255)),
                ('sealed_url', models.TextField(blank=True, editable=False)),
                ('sealed_secret', models.TextField(blank=True, editable=False)),
            ],
            options={
                'verbose_name': 'alert channel',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='AlertHost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=300, unique=True)),
                ('seen_at', models.DateTimeField()),
                ('stopped_at', models.DateTimeField(null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='AlertMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event', models.CharField(choices=[('opened', 'opened'), ('repeated', 'still open'), ('resolved', 'resolved'), ('test', 'test')], max_length=10)),
                ('notice', models.JSONField(help_text='The content of the message (chatproxy.alerts.notice).')),
                ('made_at', models.DateTimeField(verbose_name='written (UTC)')),
                ('due_at', models.DateTimeField(null=True, verbose_name='next try (UTC)')),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='tries')),
                ('sent_at', models.DateTimeField(null=True, verbose_name='sent (UTC)')),
                ('failed_at', models.DateTimeField(null=True, verbose_name='given up (UTC)')),
                ('alert', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='chatproxy.alert')),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='chatproxy.alertchannel')),
            ],
            options={
                'verbose_name': 'alert message',
                'ordering': ('-pk',),
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='AlertAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('was_sent', models.BooleanField()),
                ('result', models.CharField(max_length=200)),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tries', to='chatproxy.alertmessage')),
            ],
            options={
                'ordering': ('pk',),
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='AlertRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('budget', 'Budget used'), ('budget_refusals', 'Calls refused by a budget'), ('error_rate', 'Error rate'), ('upstream_down', 'Upstream unreachable'), ('upstream_slow', 'Upstream slow'), ('backlog', 'Journal backlog'), ('shipper', 'Shipper away'), ('database', 'Database away'), ('disk', 'Disk space'), ('unpriced', 'Price missing'), ('key_expiry', 'Key about to expire'), ('login', 'Logins throttled')], max_length=20)),
                ('threshold', models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('window_minutes', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10080)], verbose_name='window in minutes')),
                ('quiet_hours', models.PositiveIntegerField(default=1, help_text='After a message, an alert about the same subject that comes back is not sent for so many hours.', validators=[django.core.validators.MaxValueValidator(8760)], verbose_name='quiet hours')),
                ('repeat_hours', models.PositiveIntegerField(blank=True, help_text='An alert that stays open is sent again after so many hours. Leave empty to send it once.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(8760)], verbose_name='repeat after hours')),
                ('enabled', models.BooleanField(default=True)),
            ],
            options={
                'verbose_name': 'alert rule',
                'ordering': ('kind', 'threshold'),
                'constraints': [models.UniqueConstraint(fields=('kind', 'threshold'), name='chatproxy_alertrule_once')],
            },
        ),
        migrations.AddField(
            model_name='alertchannel',
            name='rules',
            field=models.ManyToManyField(blank=True, help_text='Leave empty to send the alerts of all rules, also of later ones.', to='chatproxy.alertrule'),
        ),
        migrations.AddField(
            model_name='alert',
            name='rule',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='chatproxy.alertrule'),
        ),
        migrations.AddIndex(
            model_name='alertmessage',
            index=models.Index(condition=models.Q(('due_at__isnull', False)), fields=['due_at'], name='chatproxy_alertmessage_due'),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(fields=['resolved_at'], name='chatproxy_alert_resolved'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.UniqueConstraint(condition=models.Q(('resolved_at', None)), fields=('rule', 'subject', 'host'), name='chatproxy_alert_open_once'),
        ),
        migrations.RunPython(make_rules, migrations.RunPython.noop),
        migrations.RunPython(grant_permissions, migrations.RunPython.noop),
    ]
