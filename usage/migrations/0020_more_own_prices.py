"""Adds columns to custom prices. Old code that is still running leaves them out, which means "not stated"."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0019_supposed_usage'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelprice',
            name='long_cache_write_12h',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cache write of long prompts, kept 12 hours'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='per_picture',
            field=models.DecimalField(blank=True, decimal_places=6, help_text='For models with one price for each picture, whatever its size.', max_digits=14, null=True, verbose_name='picture, each'),
        ),
    ]
