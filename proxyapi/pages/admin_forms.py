"""The forms for access keys and teams in the admin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from django import forms
from django.contrib.postgres.forms import SimpleArrayField
from django.db.models import Q
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from proxyapi.models import AccessKey
from proxyapi.team_models import SpenderColumns, Team, check_upstream_key

GRACES = {
    "0": "none: it stops working at once",
    "3600": "an hour",
    "86400": "a day",
    "604800": "a week",
    "2592000": "30 days",
}


def lines_of(text: str) -> list[str]:
    """Splits a text at line ends and commas; returns the items that are not empty."""
    return [item for part in re.split(r"[\n,]", text) if (item := part.strip())]


class LinesField(SimpleArrayField):
    """A form field for a list with one item in each line; commas separate items, too.

    An item that was in the list before stays whole even if it has commas, since scripts may have written it.
    """

    kept: frozenset[str] = frozenset()  # the items that are in the list already

    def __init__(
        self, base_field: forms.Field, *, max_length: int | None = None, help_text: str = "", **options: object
    ) -> None:
        help_text = f"One in each line. {help_text}".strip()
        super().__init__(
            base_field, delimiter="\n", max_length=max_length, min_length=None, help_text=help_text, **options
        )

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> forms.BoundField:
        """Returns Django's bound field; stores the list's present items, which `items_of` then leaves whole."""
        before = form.get_initial_for_field(self, field_name)
        self.kept = frozenset(str(item).strip() for item in before) if isinstance(before, list) else self.kept
        return super().get_bound_field(form, field_name)

    def items_of(self, text: str) -> list[str]:
        """Splits the field's text into items, at line ends and commas; returns those that are not empty.

        A line that was an item of the list before stays whole, even if it has commas.
        """
        lines = (line.strip() for line in text.split("\n"))
        return [item for line in lines for item in ([line] if line in self.kept else lines_of(line))]

    def clean(self, value: str | None) -> Sequence[object]:
        """Splits the text of the form field into items, checks each item, and returns the items.

        Raises:
            ValidationError: an item is wrong, or a required list is empty.
        """
        return super().clean("\n".join(self.items_of(value or "")))


class SpenderForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """The base class of the forms by which the admin creates or changes an access key or a team."""

    upstream_key = forms.CharField(
        required=False,
        validators=[check_upstream_key],
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Pays for the calls, instead of the server's. Stored encrypted, never shown again.",
    )
    forget_upstream_key = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget, help_text="Remove the upstream key."
    )

    def clean(self) -> dict[str, object]:
        cleaned: dict[str, object] = super().clean() or {}
        if cleaned.get("upstream_key") and cleaned.get("forget_upstream_key"):
            self.add_error("forget_upstream_key", "Either a new upstream key, or none.")
        return cleaned

    @property
    def changed_columns(self) -> list[str]:
        """The names of the database columns that the person has changed in the form."""
        columns = {field.name for field in self._meta.model._meta.concrete_fields}
        # Other fields, such as the upstream key, are no columns.
        return [name for name in self.changed_data if name in columns]

    def set_upstream_key(self, row: SpenderColumns) -> bool:
        """Sets or removes the upstream key of a key or team, if the form asks for it; does not save the row.

        Returns whether the upstream key was set or removed.
        """
        text = self.cleaned_data.get("upstream_key", "")
        if text or self.cleaned_data.get("forget_upstream_key"):
            row.set_upstream_key(text)
            return True
        return False


class AccessKeyForm(SpenderForm):
    """The form by which the admin creates or changes an access key.

    The choices for the key's team are the active teams and the present team of the key.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # Django's arguments, as they are
        teams = self.fields.get("team")
        if isinstance(teams, forms.ModelChoiceField):  # absent where the key cannot be changed
            teams.queryset = Team.objects.filter(Q(active=True) | Q(pk=self.instance.team_id))

    class Meta:
        model = AccessKey
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets say which)
        # In the form of a new key it does not stand below the sentence about all limits.
        help_texts = {"budget_month": "In dollars, for a month in UTC. Leave empty for no limit."}  # noqa: RUF012  (Django's)


class TeamForm(SpenderForm):
    """The form by which the admin creates or changes a team."""

    class Meta:
        model = Team
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets say which)


class RotateForm(forms.Form):
    """The form for rotating an access key: the person chooses how long the old secret stays valid."""

    grace = forms.ChoiceField(
        label="Keep the old key valid for",
        choices=list(GRACES.items()),
        initial="86400",
        widget=UnfoldAdminSelectWidget,
        help_text="Until then, both keys work.",
    )

    @property
    def chosen(self) -> timedelta:
        """The duration for which the rotated key's old secret stays valid, as chosen in the form."""
        return timedelta(seconds=int(self.cleaned_data["grace"]))
