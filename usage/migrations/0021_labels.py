"""Changes only labels and help texts, which no database column stores; runs no SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0020_more_own_prices'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='modelprice',
            options={'ordering': ('model', '-valid_from'), 'verbose_name': 'custom price'},
        ),
        migrations.AlterField(
            model_name='errortotal',
            name='outcome',
            field=models.CharField(choices=[('success', 'success'), ('upstream_error', 'upstream error'), ('timeout', 'timeout'), ('unreachable', 'unreachable'), ('client_cancelled', 'caller left'), ('rejected', 'rejected'), ('interrupted', 'interrupted')], max_length=20),
        ),
        migrations.AlterField(
            model_name='knownerror',
            name='outcome',
            field=models.CharField(choices=[('success', 'success'), ('upstream_error', 'upstream error'), ('timeout', 'timeout'), ('unreachable', 'unreachable'), ('client_cancelled', 'caller left'), ('rejected', 'rejected'), ('interrupted', 'interrupted')], max_length=20),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='every_tier',
            field=models.BooleanField(db_default=True, default=False, help_text='Applies the price to every tier; then leave the service tier empty.'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='multiplier',
            field=models.DecimalField(blank=True, decimal_places=6, help_text="0.88 is OpenAI's list price less 12 %. A price below replaces the one of the list.", max_digits=14, null=True, verbose_name='multiple of the list price'),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='service_tier',
            field=models.CharField(blank=True, help_text="The service tier in upstream's answer, such as flex. Leave empty for the default tier.", max_length=50),
        ),
        migrations.AlterField(
            model_name='modelprice',
            name='valid_until',
            field=models.DateTimeField(blank=True, help_text='Leave empty if the price has no end.', null=True),
        ),
        migrations.AlterField(
            model_name='request',
            name='outcome',
            field=models.CharField(choices=[('success', 'success'), ('upstream_error', 'upstream error'), ('timeout', 'timeout'), ('unreachable', 'unreachable'), ('client_cancelled', 'caller left'), ('rejected', 'rejected'), ('interrupted', 'interrupted')], max_length=20),
        ),
        migrations.AlterField(
            model_name='usagehour',
            name='outcome',
            field=models.CharField(choices=[('success', 'success'), ('upstream_error', 'upstream error'), ('timeout', 'timeout'), ('unreachable', 'unreachable'), ('client_cancelled', 'caller left'), ('rejected', 'rejected'), ('interrupted', 'interrupted')], max_length=20),
        ),
    ]
