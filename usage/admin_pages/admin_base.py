"""The base classes of all tables' pages in the admin, whose lists can be filtered only by allowed columns.

Django lets the URL of a list filter by any column (`?digest__startswith=a`). So whoever may view a list could find out
hidden values, one character at a time. Here a lookup that is not in `allowed_lookups` is answered with 400.

A form is refused if somebody has changed its row since the form was opened. Otherwise it would write all its old values
back: it would make a key active again that somebody has switched off meanwhile, or restore its budget. The page of the
form has a digest of its row, and sends it. The row is locked while it is compared and saved, so that of two forms that
are sent at once only one is saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import BaseForm, BaseModelFormSet
from django.forms.models import _get_foreign_key
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.crypto import salted_hmac
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from usage.admin_pages.audit_words import change_in_words, deletion_in_words

VERSION = "row-version"  # the hidden field of the page
# To load the page again would send the form again.
STALE = (
    "This has been changed since you opened the page, so nothing was saved. Leave the page, open it anew, and make your"
    " changes there."
)
# Columns that no such form changes, and that change by themselves: the hash of an old password does when its user
# signs in.
NOT_COMPARED = frozenset({"last_login", "last_used_at", "password"})
RowForm = TypeVar("RowForm", bound=BaseForm)


def row_number(text: str) -> int | None:
    """Parses the number of a table's row in a page's URL or in a sent form; returns None for any other text.

    A text of more than 18 digits is no row number: PostgreSQL could refuse it.
    """
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def version_of(row: Model, foreign_keys: Iterable[ForeignKey[object, object]] = ()) -> str:
    """Returns a digest of a row, which changes whenever the row is changed.

    It covers the row's columns except those in `NOT_COMPARED`, the rows in its many-to-many fields, and the rows that
    refer to it by one of `foreign_keys`, such as the members of a team.
    """
    parts = [
        (field.attname, str(field.value_from_object(row)))
        for field in row._meta.concrete_fields
        if field.name not in NOT_COMPARED
    ]
    for relation in row._meta.many_to_many:
        through = relation.remote_field.through
        if through is not None and through._meta.auto_created:
            related = relation.value_from_object(row)
            parts.append((relation.name, str(sorted(one.pk for one in related))))
    for key in foreign_keys:
        rows = key.model._default_manager.filter(**{key.name: row.pk}).order_by("pk").values_list()
        parts.append((key.model._meta.label, str(list(rows))))
    # An HMAC: the columns have secrets.
    return salted_hmac(VERSION, repr(parts), algorithm="sha256").hexdigest()


def refusing(form: type[RowForm]) -> type[RowForm]:
    """Returns a subclass of `form` that always has an error: the row was changed after the form was opened."""

    def clean(self: RowForm) -> dict[str, object] | None:
        cleaned = form.clean(self)
        self.add_error(None, STALE)
        return cleaned

    refusing_form: type[RowForm] = type(form).__new__(type(form), form.__name__, (form,), {"clean": clean})
    return refusing_form


def signed_in(request: HttpRequest) -> int:
    """Returns the id of the person who is signed in to the admin.

    Raises:
        PermissionDenied: nobody is signed in.
    """
    if request.user.pk is None:
        raise PermissionDenied
    return request.user.pk


class GuardedAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Base class of a table's pages in the admin. Query parameters can filter the list only by `allowed_lookups`.

    The parameter of each `SimpleListFilter` must be among them, too.
    """

    allowed_lookups: tuple[str, ...] = ()
    empty_words = ""  # what the list is for and what to do, where it has no row yet
    list_title = ""  # of the list's page, as in the side bar; by default the plural name of the table's rows
    change_form_before_template = "admin/usage/row_version.html"

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        return lookup in self.allowed_lookups

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:
        """Answers with the page of the list. Its title, also in the browser's tab, names what is listed."""
        # Django's is "Select key to change".
        title = self.list_title or capfirst(self.opts.verbose_name_plural)
        answer: HttpResponseBase = super().changelist_view(request, {"title": title, **(extra_context or {})})
        return answer

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Model], search_term: str
    ) -> tuple[QuerySet[Model], bool]:
        """Returns the rows of `queryset` in which `search_term` is found, and whether a row may be among them twice.

        NUL is removed from the term, since PostgreSQL refuses it.
        """
        found: tuple[QuerySet[Model], bool]
        found = super().get_search_results(request, queryset, search_term.replace("\0", ""))
        return found

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: object
    ) -> type[BaseForm]:
        """Returns the form class for the row `obj`, or for a new row if `obj` is None.

        If somebody has changed the row since the form was opened, the returned class refuses the sent form with a
        message. When a form was sent, the row is locked until the transaction ends.
        """
        form: type[BaseForm] = super().get_form(request, obj, change=change, **options)
        seen = request.POST.get(VERSION)
        return form if obj is None or seen is None or seen == self._version_of_locked(obj) else refusing(form)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Model | None = None,
    ) -> HttpResponse:
        """Renders the page with the form of a row, or of a new row.

        For a row that the person may change, a hidden field has the row's digest as of the opening of the form
        (`version_of`), so that changes by others are noticed when the form is sent.
        """
        if request.method == "POST":  # the form is wrong, and `obj` has its values already
            context["row_version"] = request.POST.get(VERSION, "")
        elif obj is not None and self.has_change_permission(request, obj):
            context["row_version"] = self._version_of(obj)
        answer: HttpResponse = super().render_change_form(request, context, add, change, form_url, obj)
        return answer

    def _version_of_locked(self, row: Model) -> str:
        """Locks a row until the present transaction ends; returns the digest of the row as it is now (`version_of`).

        Returns an empty text if the row was deleted.
        """
        rows = self.model._default_manager.select_for_update(no_key=True)
        present = rows.filter(pk=row.pk).first()
        return "" if present is None else self._version_of(present)

    def _version_of(self, row: Model) -> str:
        tables = (inline.model for inline in self.inlines)
        return version_of(row, [_get_foreign_key(self.model, table) for table in tables])

    def construct_change_message(
        self,
        request: HttpRequest,
        form: BaseForm,
        formsets: Iterable[BaseModelFormSet] | None,  # type: ignore[type-arg]  # not subscriptable when it runs
        add: bool = False,
    ) -> str:
        """Returns for the audit log what a sent form changes, in words, with the values before and after the change."""
        # Django names the fields, but not their values.
        return change_in_words(form, formsets or (), is_new=add)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> None:
        """Adds an entry to the audit log for each row that is about to be deleted, with the values in the row."""
        for row in queryset:
            LogEntry.objects.create(
                user_id=signed_in(request),
                content_type=ContentType.objects.get_for_model(row, for_concrete_model=False),
                object_id=str(row.pk),
                object_repr=str(row)[:200],
                action_flag=DELETION,
                change_message=deletion_in_words(row),
            )


class ReadOnlyAdmin(GuardedAdmin):
    """Base class of a table's pages in the admin where people can view rows, but not add, change or delete them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
