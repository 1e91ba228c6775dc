"""Adds up totals and failures of the calls that are there. Old code that still runs does not add to them: when the
last of it has ended, `manage.py ledger sum` does this once more.
"""

from django.db import migrations


def add_up(apps, schema_editor):
    if apps.get_model("usage", "UsageHour").objects.exists():
        from usage.upkeep.rebuild_totals import rebuild_totals

        rebuild_totals()


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0002_totals'),
    ]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '30s'", ""),
        migrations.RunPython(add_up, migrations.RunPython.noop),
    ]
