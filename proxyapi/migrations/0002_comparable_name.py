"""Adds a column with a comparable form of a key's name: it is equal for names that look the same.

The migration fills it for all keys. If the names of several keys look the same, only the oldest one gets a value. The
others go on working without one, and no new key gets a name that looks like theirs. The version before this one leaves
the column empty in new keys.
"""

from django.db import migrations, models

from proxyapi.key_names import comparable


def fill(apps, schema_editor):
    keys = apps.get_model("proxyapi", "AccessKey").objects.using(schema_editor.connection.alias)
    taken = set()
    for key in keys.order_by("created_at", "pk"):
        name = comparable(key.name)
        if name not in taken and len(name) <= 600:
            taken.add(name)
            keys.filter(pk=key.pk).update(comparable_name=name)


class Migration(migrations.Migration):

    dependencies = [("proxyapi", "0001_access_key")]

    operations = [
        migrations.AddField(
            model_name="accesskey",
            name="comparable_name",
            field=models.CharField(editable=False, max_length=600, null=True, unique=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
