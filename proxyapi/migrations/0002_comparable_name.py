"""Adds the form of a key's name in which names that read the same are equal, and fills it for the keys there are.

Of keys whose names read the same already, the oldest gets it, and the others stay without: they go on as they are, and
no new key gets a name that reads like theirs. The version before this one leaves it empty in the keys that it makes.
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
        migrations.RunSQL("SET LOCAL lock_timeout = '5s'", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="accesskey",
            name="comparable_name",
            field=models.CharField(editable=False, max_length=600, null=True, unique=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
