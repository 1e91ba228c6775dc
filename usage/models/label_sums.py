"""The tables of sums by label: by one label, and by all labels together for reports by two.

`usage.sums.labels` adds to the former, and `usage.upkeep.label_sums` writes the latter.
"""

from __future__ import annotations

from django.db import models

from usage.models.sums import PART


class LabelTotal(models.Model):
    """The sums of the calls of one day or month (UTC) with the same label, key, team, owner, model and route.

    `label` is `end_user`, or `tag:` and the name of a tag; `value` is the end user or the tag's value. Rows with an
    empty `label` count all calls. `usage.sums.labels` limits the number of values.
    """

    pk = models.CompositePrimaryKey("span", "label", "start", "value", "key_name", "team", "owner", "model", "route")
    span = models.CharField(max_length=5)
    label = models.CharField(max_length=110)
    start = models.DateField()
    value = models.CharField(max_length=200)
    key_name = models.CharField(max_length=200)
    team = models.CharField(max_length=200)
    owner = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

    def __str__(self) -> str:
        return f"{self.span} {self.start} {self.label} {self.value} {self.key_name} {self.model}"


class LabelGrandTotal(models.Model):
    """The sums of all calls of one day or month (UTC) that have the same label, whatever its value: one row a label.

    `label` is as in `LabelTotal`, and empty for the sums of all calls. The row is the sum of those rows of
    `LabelTotal`, whose triggers write it: so it also counts what an older version adds to that table.
    """

    pk = models.CompositePrimaryKey("span", "label", "start")
    span = models.CharField(max_length=5)
    label = models.CharField(max_length=110)
    start = models.DateField()
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

    def __str__(self) -> str:
        return f"{self.span} {self.start} {self.label}"


class LabelPeriod(models.Model):
    """The sums of all calls that began in a range of days (UTC), from `first` until before `until`.

    * `is_summed`: whether the table `LabelCombination` has this range's sums by all labels together. It has none if
      they would be nearly as many as the calls, or if they did not add up to the sums in this row.
    * `has_others`: whether those sums count the calls of some end users together, as `OTHERS` (`usage.sums.labels`).
    * `calls`: the number of calls. A negative number marks this row as wrong, because the row of a call has been
      replaced or deleted since (`usage.sums.labels.changed_days`).

    `usage.upkeep.label_sums.combining` writes both tables.
    """

    first = models.DateField()
    until = models.DateField()
    is_summed = models.BooleanField()
    has_others = models.BooleanField()
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["first", "until"], name="usage_labelperiod_once"),)

    def __str__(self) -> str:
        return f"{self.first} to {self.until}"


class LabelCombination(models.Model):
    """The sums of the calls of a range of days with the same key, model, route, team, owner, end user and tags.

    `period` is the range, and `number` tells the rows of one range apart. `tags` has all tags, each between two line
    breaks.
    """

    pk = models.CompositePrimaryKey("period_id", "number")
    period = models.ForeignKey(LabelPeriod, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.IntegerField()
    key_name = models.CharField(max_length=200)
    team = models.CharField(max_length=200)
    owner = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    end_user = models.CharField(max_length=200)
    tags = models.TextField()
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

    def __str__(self) -> str:
        return f"{self.period_id} {self.number} {self.key_name} {self.model} {self.end_user}"
