"""Gives the role `admin` the permissions for API tokens.

A group with this name that lacks one of the role's first permissions is somebody's own, and is not changed.
"""

from django.contrib.auth.management import create_permissions
from django.db import migrations

CODENAMES = tuple(f"{action}_apitoken" for action in ("view", "add", "change"))
# The permission by which the group of a role is recognised, and what the role gets.
ROLES = {"admin": ("change_group", CODENAMES)}


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
        ('chatproxy', '0005_team_permissions'),
        ('proxyapi', '0008_api_tokens'),
    ]

    operations = [migrations.RunPython(grant_permissions, migrations.RunPython.noop)]
