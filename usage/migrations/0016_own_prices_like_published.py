"""Extends custom prices. Prices without a tier stay valid in every tier, also those that old code still writes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0015_cost_kind'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelprice',
            name='cache_write_12h',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cache write, kept 12 hours'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='cached_audio_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cached audio input'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='cached_image_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cached image input'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='characters',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='characters to speak, per million'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='every_tier',
            field=models.BooleanField(db_default=True, default=False, help_text='If no service tier is given: the price is for every tier.'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='image_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='image input'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='image_output',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='image output'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='long_cache_write',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cache write of long prompts'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='long_cached_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cached input of long prompts'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='long_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='input of long prompts'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='long_output',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='output of long prompts'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='multiplier',
            field=models.DecimalField(blank=True, decimal_places=6, help_text="0.88 is OpenAI's list price less 12 %. What is stated below takes the place of the list's.", max_digits=14, null=True, verbose_name='multiple of the list price'),
        ),
        migrations.AddField(
            model_name='modelprice',
            name='per_file_search',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='file search, each'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='audio_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='audio input'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='audio_output',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='audio output'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='cache_write',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cache write'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='cached_input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='cached input'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='input',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='input'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='output',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=14, null=True, verbose_name='output'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='service_tier',
            field=models.CharField(blank=True, help_text='The tier that upstream answers, such as flex. Empty: the default tier.', max_length=50),
        ),
    ]
