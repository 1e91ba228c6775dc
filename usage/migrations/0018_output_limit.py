from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0017_parts_of_cost'),
    ]

    operations = [
        # Old code leaves the column out.
        migrations.AddField(
            model_name='request',
            name='output_limit',
            field=models.PositiveIntegerField(help_text='Output tokens of each answer, where the gateway has added a limit to the body.', null=True),
        ),
    ]
