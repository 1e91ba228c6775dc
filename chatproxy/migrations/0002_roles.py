"""Creates a user group for each role (viewer, analyst, key manager, admin), with the role's permissions.

If a group with such a name exists already, somebody else has made it, so it is not changed. The new groups are ordinary
groups: people may change or delete them, and no later update undoes that.
"""

from django.contrib.auth.management import create_permissions
from django.db import migrations

NUMBERS = ("usage.view_request",)
BODIES = ("usage.view_requestbody",)
ERRORS = ("usage.change_knownerror",)
KEYS = ("proxyapi.view_accesskey", "proxyapi.add_accesskey", "proxyapi.change_accesskey")
ROLES = {
    "viewer": NUMBERS,
    "analyst": (*NUMBERS, *BODIES, *ERRORS),
    "key manager": (*NUMBERS, *KEYS),
    "admin": (
        *NUMBERS,
        *BODIES,
        *ERRORS,
        *KEYS,
        *(f"usage.{action}_modelprice" for action in ("view", "add", "change", "delete")),
        *(f"auth.{action}_user" for action in ("view", "add", "change", "delete")),
        *(f"auth.{action}_group" for action in ("view", "add", "change", "delete")),
        "admin.view_logentry",
    ),
}


def make_groups(apps, schema_editor):
    make_permissions(apps, schema_editor.connection.alias)
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, permissions in ROLES.items():
        group, is_new = Group.objects.get_or_create(name=name)
        if is_new:
            for permission in permissions:
                app_label, codename = permission.split(".")
                found = Permission.objects.get(content_type__app_label=app_label, codename=codename)
                group.permissions.add(found)


def make_permissions(apps, using):
    """Creates the permissions that the roles contain, so that a migration can use them.

    Django itself creates them only after all migrations, which is too late for this one on a new database.
    """
    for label in ("admin", "auth", "proxyapi", "usage"):
        config = apps.get_app_config(label)
        config.models_module = True  # a state's app has none, and none would mean that it has no models
        create_permissions(config, verbosity=0, interactive=False, using=using, apps=apps)
        config.models_module = None


class Migration(migrations.Migration):

    dependencies = [
        ("chatproxy", "0001_login_attempts"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("proxyapi", "0001_access_key"),
        ("usage", "0009_key_day_histograms"),
    ]

    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
