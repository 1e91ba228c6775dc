"""Adds the grand totals of each label: one row a day and month, in place of one for each of its values.

Triggers keep them, since older code goes on to write the sums by label until it is replaced. From the triggers' making
until the past is added up (ten seconds for eleven million sums), writers of sums wait.
"""

from django.db import migrations, models

SUMS = (
    "calls", "errors", "unpriced_calls", "input_tokens", "cached_tokens", "output_tokens",
    "cost", "estimated_cost", "provisional_cost",
)
NAMES = ", ".join(SUMS)
FUNCTION = "usage_labeltotal_changed"
ADD = f"""
    INSERT INTO usage_labelgrandtotal (span, label, start, {NAMES})
    SELECT span, label, start, {", ".join(f"sum({name})" for name in SUMS)} FROM ({{}}) AS changed
    GROUP BY span, label, start ORDER BY span, label, start
    ON CONFLICT (span, label, start) DO UPDATE
    SET {", ".join(f"{name} = usage_labelgrandtotal.{name} + EXCLUDED.{name}" for name in SUMS)}
"""
ADDED = f"SELECT span, label, start, {NAMES} FROM added"
REMOVED = f"SELECT span, label, start, {', '.join(f'-{name} AS {name}' for name in SUMS)} FROM removed"
# There may be many labels without sums, since callers make up names of tags.
DELETE_EMPTY = """
    DELETE FROM usage_labelgrandtotal AS total USING (SELECT DISTINCT span, label, start FROM removed) AS gone
    WHERE (total.span, total.label, total.start) = (gone.span, gone.label, gone.start) AND NOT EXISTS (
        SELECT FROM usage_labeltotal AS kept
        WHERE (kept.span, kept.label, kept.start) = (gone.span, gone.label, gone.start))
"""
# PostgreSQL plans a statement of a function when it is first executed, so each may name the tables of its operation.
CREATE_FUNCTION = f"""
    CREATE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'INSERT' THEN {ADD.format(ADDED)};
        ELSIF TG_OP = 'UPDATE' THEN {ADD.format(f"{ADDED} UNION ALL {REMOVED}")};
        ELSIF TG_OP = 'DELETE' THEN {ADD.format(REMOVED)}; {DELETE_EMPTY};
        ELSE DELETE FROM usage_labelgrandtotal;
        END IF;
        RETURN NULL;
    END $$
"""
TABLES = {
    "INSERT": "REFERENCING NEW TABLE AS added",
    "UPDATE": "REFERENCING OLD TABLE AS removed NEW TABLE AS added",
    "DELETE": "REFERENCING OLD TABLE AS removed",
    "TRUNCATE": "",
}
CREATE_TRIGGERS = [
    f"CREATE TRIGGER usage_labeltotal_{operation.lower()} AFTER {operation} ON usage_labeltotal {tables}"
    f" FOR EACH STATEMENT EXECUTE FUNCTION {FUNCTION}()"
    for operation, tables in TABLES.items()
]
DROP_TRIGGERS = [f"DROP TRIGGER usage_labeltotal_{operation.lower()} ON usage_labeltotal" for operation in TABLES]
FILL = f"""
    INSERT INTO usage_labelgrandtotal (span, label, start, {NAMES})
    SELECT span, label, start, {", ".join(f"sum({name})" for name in SUMS)} FROM usage_labeltotal GROUP BY 1, 2, 3
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0037_label_combinations'),
    ]

    operations = [
        migrations.CreateModel(
            name='LabelGrandTotal',
            fields=[
                ('pk', models.CompositePrimaryKey('span', 'label', 'start', blank=True, editable=False, primary_key=True, serialize=False)),
                ('span', models.CharField(max_length=5)),
                ('label', models.CharField(max_length=110)),
                ('start', models.DateField()),
                ('calls', models.BigIntegerField()),
                ('errors', models.BigIntegerField()),
                ('unpriced_calls', models.BigIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('cached_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=8, max_digits=20)),
                ('estimated_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
                ('provisional_cost', models.DecimalField(db_default=0, decimal_places=8, default=0, max_digits=20)),
            ],
        ),
        migrations.RunSQL(
            ["SET LOCAL statement_timeout = 0", CREATE_FUNCTION, *CREATE_TRIGGERS, FILL],
            [*DROP_TRIGGERS, f"DROP FUNCTION {FUNCTION}()"],
        ),
    ]
