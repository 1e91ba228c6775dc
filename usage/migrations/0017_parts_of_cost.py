"""Sums say how many of their dollars are estimated or provisional.

Older sums have 0 in both: their rows do not say which of their dollars were. Old code that still runs adds to sums
without these columns, from rows without a `cost_kind`, so both agree.
"""

from django.db import migrations, models

PARTS = ("estimated_cost", "provisional_cost")


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0016_own_prices_like_published'),
    ]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '30s'", ""),
        *(
            migrations.AddField(
                model_name=table,
                name=part,
                field=models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20),
            )
            for table in ("usageday", "usagehour", "usagetotal")
            for part in PARTS
        ),
    ]
