"""Adds columns to the sums: how many of their dollars are estimated, and how many provisional.

Older sums have 0 in both, since their rows do not state a kind of cost. Old code that is still running leaves these
columns out; its rows have no `cost_kind` either, so rows and sums agree.
"""

from django.db import migrations, models

PARTS = ("estimated_cost", "provisional_cost")


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0016_own_prices_like_published'),
    ]

    operations = [
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
