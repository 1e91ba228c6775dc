"""Gives the roles that manage keys the permissions for teams.

A group with a role's name that lacks one of the role's first permissions is somebody's own, and is not changed.
"""

from django.contrib.auth.management import create_permissions
from django.db import migrations

CODENAMES = (
    *(f"{action}_team" for action in ("view", "add", "change")),
    *(f"{action}_teammember" for action in ("view", "add", "change", "delete")),
)
# The permission by which the group of a role is recognised, and what the role gets.
ROLES = {"key manager": ("change_accesskey", CODENAMES), "admin": ("change_group", CODENAMES)}


def grant_permissions(apps, schema_editor):
    config = apps.get_app_config("proxyapi")
    config.models_module = True  # a state's app has none, and none would mean that it has no models
    create_permissions(config, verbosity=0, interactive=False, using=schema_editor.connection.alias, apps=apps)
    config.models_module = None
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, (known_by, codenames) in ROLES.items():
        for group in Group.objects.filter(name=name, permissions__codename=known_by):
            group.permissions.add(
                *Permission.objects.filter(content_type__app_label="proxyapi", codename__in=codenames)
            )


class Migration(migrations.Migration):

    dependencies = [
        ('chatproxy', '0004_alerts'),
        ('proxyapi', '0006_teams'),
    ]

    operations = [migrations.RunPython(grant_permissions, migrations.RunPython.noop)]
