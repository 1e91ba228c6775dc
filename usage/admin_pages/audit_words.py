"""Describes a change that somebody makes in the admin for the audit log, with the values before and after it.

The value of a password field, or of one of `SECRET_COLUMNS`, is never in the description, which only says that it was
set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from django.db.models import Field, Manager, Model, QuerySet
from django.forms import BaseForm, BaseModelFormSet, PasswordInput

from usage.untrusted_text import escape_invisible

# Columns that no list, filter, search, order or log may show, whatever a class allows.
SECRET_COLUMNS = frozenset({
    "password", "digest", "previous_digest", "sealed_upstream_key", "sealed_url", "sealed_secret", "session_data",
    "session_key", "request_body", "response_body",
})  # fmt: skip
MAX_VALUE = 200  # characters that are told of a value
MAX_ITEMS = 20  # items that are told of a list, such as the permissions of a group
NOTHING = "nothing"
EMPTY: tuple[object, ...] = (None, "", [], ())


def change_in_words(form: BaseForm, formsets: Iterable[BaseModelFormSet] = (), *, is_new: bool = False) -> str:  # type: ignore[type-arg]  # not subscriptable when it runs
    """Describes for the audit log what a valid form of the admin changes.

    An example is “Changed owner from “Ada” to “Bob”.” Secret values are left out.

    Args:
        form: the form of the object.
        formsets: the tables on the form's page, such as the members of a team.
        is_new: whether the form creates the object. Then the entered values are named.
    """
    parts = list(_new_values(form) if is_new else _changed_values(form))
    first = "Added" if is_new else "Changed"
    sentences = [f"{first} {'with ' if is_new else ''}{'; '.join(parts)}."] if parts else []
    sentences += [sentence for formset in formsets for sentence in _rows_in_words(formset)]
    return " ".join(sentences) or (f"{first}." if is_new else "Saved without a change.")


def columns_in_words(row: Model, before: Mapping[str, object], columns: Iterable[str]) -> str:
    """Describes for the audit log how a script has changed `columns` of a row, or the values of a new row.

    `before` has the values before the change; it is empty for a new row. Of a new row, default values are left out. The
    values of `SECRET_COLUMNS` are never shown.
    """
    parts = []
    for name in columns:
        field = row._meta.get_field(name)
        assert isinstance(field, Field)  # noqa: S101  (the columns of a row are no relations of other tables)
        label = _label(name.removeprefix("sealed_") if name in SECRET_COLUMNS else field.verbose_name)
        if not before and _is_default(field, row):
            continue
        if name in SECRET_COLUMNS:
            parts.append(f"{label} (not shown)")
            continue
        old, new = (_with_choice(field, value) for value in (before.get(name), getattr(row, name)))
        if not before:
            parts.append(f"{label} {_told(new)}")
        elif _is_list(new):
            parts.append(f"{label}: {_differences(_items(old), _items(new))}")
        else:
            parts.append(f"{label} from {_told(old)} to {_told(new)}")
    first = "Changed " if before else "Added with "
    return f"{first}{'; '.join(parts)}." if parts else f"{first.split()[0]}."


def _with_choice(field: Field, value: object) -> object:  # type: ignore[type-arg]  # not subscriptable when it runs
    """Returns the label of a column's value if the column has choices, otherwise the value itself."""
    return dict(field.flatchoices).get(value, value) if field.choices else value


def deletion_in_words(row: Model) -> str:
    """Returns for the audit log a sentence about a row that is about to be deleted, with the values in the row.

    Secrets, the primary key, and values that are empty or the default are left out.
    """
    values = [
        f"{_label(field.verbose_name)} {_told(field.value_from_object(row))}"
        for field in row._meta.concrete_fields
        if not field.primary_key and field.name not in SECRET_COLUMNS and not _is_default(field, row)
    ]
    return f"Deleted; it had {'; '.join(values)}." if values else "Deleted."


def _new_values(form: BaseForm) -> Iterator[str]:
    """Yields the values that a form gives to a new object, each with its label; unchanged defaults are left out."""
    for name in form.changed_data:
        yield f"{_label_of(form, name)} {'' if _is_secret(form, name) else _after(form, name)}".strip()


def _changed_values(form: BaseForm) -> Iterator[str]:
    """Yields each change that a form makes to an object, in words, such as `owner from “Ada” to “Bob”`.

    If the value is a list, the change names the added and removed items. If it is secret, the change is only the
    field's label.
    """
    for name in form.changed_data:
        label = _label_of(form, name)
        if _is_secret(form, name):
            yield label
            continue
        before, after = form.get_initial_for_field(form.fields[name], name), form.cleaned_data.get(name)
        if _is_list(before) or _is_list(after):
            yield f"{label}: {_differences(_items(before), _items(after))}"
        elif (old := _before(form, name, before)) != (new := _after(form, name)):  # seconds of a time may differ
            yield f"{label} from {old} to {new}"


def _rows_in_words(formset: BaseModelFormSet) -> Iterator[str]:  # type: ignore[type-arg]  # not subscriptable when it runs
    """Yields a sentence for each row that was added, changed or deleted in a table on an object's page."""
    kind = str(formset.model._meta.verbose_name)  # type: ignore[union-attr]  # set by the factory of formsets
    for one in formset.new_objects:
        yield f"Added {kind} {_told(one)}."
    for one, _names in formset.changed_objects:
        form = next(form for form in formset.initial_forms if form.instance.pk == one.pk)
        yield f"Changed {kind} {_told(one)}: {'; '.join(_changed_values(form))}."
    for one in formset.deleted_objects:
        yield f"Deleted {kind} {_told(one)}."


def _differences(before: Sequence[str], after: Sequence[str]) -> str:
    """Returns in words which items were added to a list and removed from it; "another order" if none were."""
    added = [item for item in after if item not in before]
    removed = [item for item in before if item not in after]
    told = [f"{verb} {_joined(items)}" for verb, items in (("added", added), ("removed", removed)) if items]
    return ", ".join(told) or "another order"


def _joined(items: Sequence[str]) -> str:
    """Joins the items of a list with commas; of a long list, the first `MAX_ITEMS`, and how many more there are."""
    more = len(items) - MAX_ITEMS
    return ", ".join(items[:MAX_ITEMS]) + (f" and {more} more" if more > 0 else "")


def _before(form: BaseForm, name: str, value: object) -> str:
    """Returns the value that a form's field had before the form was sent, as text; the label if it is a choice."""
    return _told(_with_label(form, name, form.fields[name].to_python(value) if value not in EMPTY else value))


def _after(form: BaseForm, name: str) -> str:
    """Returns the value that a sent form has in a field, as text; the label if the value is a choice."""
    return _told(_with_label(form, name, form.cleaned_data.get(name)))


def _with_label(form: BaseForm, name: str, value: object) -> object:
    """Returns the label of a value if the form's field has a list of choices, otherwise the value itself."""
    if isinstance(value, Model):
        return value
    choices = getattr(form.fields[name], "_choices", None)  # not of a table's rows, which may be many
    if _is_list(value) or not isinstance(choices, list):
        return value
    return dict(choices).get(value, value)


def _told(value: object) -> str:
    """Converts a value to text for the audit log: texts in quotes, lists as their items, times in UTC, "yes" or "no".

    An empty value becomes "nothing". A text is cut to `MAX_VALUE` characters.
    """
    if value in EMPTY:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_list(value):
        return _joined(_items(value)) or NOTHING
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    text = escape_invisible(str(value), MAX_VALUE)
    return f"“{text}”" if isinstance(value, str | Model) else text


def _items(value: object) -> list[str]:
    """Returns the items of a list, or the rows of a related manager, as texts in quotes; empty for other values."""
    rows = value.all() if isinstance(value, Manager) else value
    return [_told(item) for item in rows] if _is_list(rows) else []  # type: ignore[attr-defined]  # `_is_list` says so


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | set | QuerySet | Manager)


def _is_default(field: Field, row: Model) -> bool:  # type: ignore[type-arg]  # not subscriptable when it runs
    """Returns whether the value in a column of a row is empty or the default of the column."""
    value = field.value_from_object(row)
    return value in EMPTY or value == field.get_default()


def _is_secret(form: BaseForm, name: str) -> bool:
    """Returns whether the value of a form's field is secret, so that it must not be in the audit log."""
    field = form.fields.get(name)
    # Django's form of a password says that `password` has changed, and has no field of this name.
    return name in SECRET_COLUMNS or field is None or isinstance(field.widget, PasswordInput)


def _label_of(form: BaseForm, name: str) -> str:
    """Returns the name of a form's field for a sentence: `budget per day`, or `upstream key (not shown)`."""
    label = _label(getattr(form.fields.get(name), "label", None) or name)
    return f"{label} (not shown)" if _is_secret(form, name) else label


def _label(text: object) -> str:
    """Returns the label of a field for use inside a sentence, with a small first letter."""
    words = str(text).replace("_", " ")
    return words[:1].lower() + words[1:] if words[1:2].islower() else words
