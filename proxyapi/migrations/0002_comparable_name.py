"""Adds a column with a form of a key's name that is equal for names that look the same, and fills it for all keys.

If names of existing keys look the same, only the oldest key gets a value. The others stay without one: they go on
working, and no new key gets a name that looks like theirs. The version before this one leaves the column empty in keys
that it makes.
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
