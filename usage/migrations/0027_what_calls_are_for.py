"""Adds columns for the labels of calls. Old code that is still running leaves them out: its calls have no labels."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0026_peaks'),
    ]

    operations = [
        migrations.AddField(
            model_name='request',
            name='end_user',
            field=models.CharField(blank=True, db_default='', default='', help_text='The person for whom the call was made, as the caller states it.', max_length=200, verbose_name='end user'),
        ),
        migrations.AddField(
            model_name='request',
            name='owner',
            field=models.CharField(blank=True, db_default='', default='', help_text='The person or team that uses the key.', max_length=200, verbose_name='key owner'),
        ),
        migrations.AddField(
            model_name='request',
            name='session',
            field=models.CharField(blank=True, db_default='', default='', help_text='Stated by the caller; the same for all calls of one conversation.', max_length=200),
        ),
        migrations.AddField(
            model_name='request',
            name='team',
            field=models.CharField(blank=True, db_default='', default='', help_text="The key's team.", max_length=200),
        ),
    ]
