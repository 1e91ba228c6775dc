import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxyapi', '0003_shared_objects'),
    ]

    operations = [
        # Old code leaves the column out.
        migrations.AddField(
            model_name='accesskey',
            name='max_output_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='A call that sets no limit gets this one; a call that asks for more is refused.', null=True, validators=[django.core.validators.MinValueValidator(16)], verbose_name='output tokens per call'),
        ),
        migrations.AddField(
            model_name='accesskey',
            name='min_output_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='A call that sets no limit gets the highest that the budget has room for, but never less than this. Empty: 1,000.', null=True, validators=[django.core.validators.MinValueValidator(16)], verbose_name='least output tokens'),
        ),
    ]
