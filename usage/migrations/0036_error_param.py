"""Failed calls get a column for the parameter of the request that was refused.

Rows from before, and those that older code still writes, have an empty one. The groups of their errors stay.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0035_saved_views'),
    ]

    operations = [
        migrations.AddField(
            model_name='request',
            name='error_param',
            field=models.CharField(blank=True, db_default='', default='', help_text='The parameter of the request that was refused, if the error names one.', max_length=100, verbose_name='refused parameter'),
        ),
    ]
