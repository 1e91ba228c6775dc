"""The pages of the site "My usage" for people with an account: their own keys, and those of teams that they lead.

`proxyapi.keys.self_service` decides who may see and do what. A key that a person may not see is answered with 404, like
one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Concatenate, ParamSpec

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from proxyapi.keys import self_service
from proxyapi.models import AccessKey
from proxyapi.pages import key_usage
from proxyapi.pages.handover.handover import Handover
from proxyapi.pages.handover.model_list import ModelsField, ModelsWidget
from proxyapi.pages.key_usage import KeyFacts
from usage.admin_pages.base_url import base_url
from usage.page_data.errors.newest_failures import read_newest_failures_of_owner
from usage.page_data.key_summary import budget_bars, read_summaries

MAX_KEYS = 500  # that the page lists
ROTATION_GRACE = timedelta(days=1)
P = ParamSpec("P")


class NewKeyForm(forms.Form):
    """The form by which a person makes a key in a team, for themselves or, as the team's lead, for a member."""

    name = forms.CharField(max_length=200)
    budget_month = forms.DecimalField(
        label="Budget per month, in dollars", required=False, min_value=0, decimal_places=4
    )

    def __init__(self, person: User, data: object = None) -> None:
        super().__init__(data)  # type: ignore[arg-type]  # a QueryDict or None
        self.fields["team"] = forms.ModelChoiceField(self_service.teams_to_make_keys_in(person))
        members = User.objects.filter(memberships__team__in=self_service.led_teams(person).values("pk"))
        others = members.exclude(pk=person.pk).distinct()
        self.fields["owner"] = forms.ModelChoiceField(others, label="For", required=False, empty_label="myself")
        self.fields["allowed_models"] = ModelsField(
            forms.CharField(max_length=200),
            required=False,
            widget=ModelsWidget(forms.Textarea({"rows": 2})),
            help_text="Names or patterns such as gpt-4o*. Leave empty for all that the team may use.",
        )


class BudgetForm(forms.Form):
    """The form by which a team's lead sets the budget of a key, in dollars per month."""

    budget_month = forms.DecimalField(required=False, min_value=0, max_digits=12, decimal_places=4)


def for_person(
    view: Callable[Concatenate[HttpRequest, User, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Decorator for a view that needs a signed-in person: passes the person to the view, sends others to the login.

    If the view finds no key that the person may use, the answer is 404.
    """

    def answered(request: HttpRequest, /, *args: P.args, **options: P.kwargs) -> HttpResponseBase:
        if not isinstance(request.user, User):
            return redirect(f"{reverse('admin:login')}?next={reverse('my_usage:show')}")
        try:
            return view(request, request.user, *args, **options)
        except AccessKey.DoesNotExist:
            raise Http404("There is no such key.") from None

    return answered


def show(request: HttpRequest, person: User, form: NewKeyForm | None = None) -> HttpResponse:
    """Shows a person's keys and those of teams that they lead, with their spending.

    The page also has the newest failed calls of the person's own keys and, for a person who may make keys, the form for
    a new key. If `form` has errors, the status is 400.
    """
    keys = list(self_service.seen_keys(person).order_by("team__name", "name")[:MAX_KEYS])
    now = timezone.now()
    summaries = read_summaries([key.name for key in keys], now)
    led = set(self_service.led_teams(person).values_list("pk", flat=True))
    rows = [
        {
            "key": key,
            "bars": budget_bars(summaries[key.name].spent, key.budgets, now),
            "is_own": key.owner_user_id == person.pk,
            "is_led": key.team_id in led,
            "is_active": key.revoked_at is None,
        }
        for key in keys
    ]
    form = form or NewKeyForm(person)
    context = {"person": person, "rows": rows, "form": form if self_service.teams_to_make_keys_in(person) else None}
    context |= {"leads": bool(led), **_failures_context(person)}
    return render(request, "my_usage/keys.html", context, status=400 if form.errors else 200)


def _failures_context(person: User) -> dict[str, object]:
    """Returns the template's values with a person's newest failed calls; empty if the person owns no key."""
    own = dict(self_service.seen_keys(person).filter(owner_user=person).values_list("name", "pk"))
    if not own:
        return {}
    failures = read_newest_failures_of_owner(person.get_username(), own, timezone.now())
    links = [(call, reverse("my_usage:key_call", args=[own[call.key_name], call.pk])) for call in failures.calls]
    return {"failures": failures, "failure_links": links}


@require_safe
@for_person
def usage(request: HttpRequest, person: User, key_id: int) -> HttpResponse:
    """Shows the usage page of one key. The newest calls are on the page only if the key is the person's own."""
    key = self_service.seen_keys(person).get(pk=key_id)
    context = key_usage.page_context(request, facts_for(person, key), reverse("my_usage:key_data", args=[key.pk]))
    return render(request, "my_usage/usage.html", {**context, "person": person})


@require_safe
@for_person
def data(request: HttpRequest, person: User, key_id: int) -> JsonResponse:
    """Returns the newest data for an open page of one key's usage, as JSON."""
    key = self_service.seen_keys(person).get(pk=key_id)
    return key_usage.data_response(request, facts_for(person, key))


@require_POST
@for_person
def make(request: HttpRequest, person: User) -> HttpResponse:
    """Makes a key in a team, and shows its secret once; if the form is wrong, shows the form with the errors."""
    form = NewKeyForm(person, request.POST)
    if form.is_valid():
        facts = form.cleaned_data
        try:
            key, text = self_service.make_key(
                person,
                facts["team"],
                facts["name"],
                facts["owner"] or person,
                facts["budget_month"],
                facts["allowed_models"],
            )
        except ValidationError as error:
            form.add_error(None, error.messages)
        else:
            return _show_secret(request, key, text)
    return show(request, person, form)


@require_POST
@for_person
def rotate(request: HttpRequest, person: User, key_id: int) -> HttpResponse:
    """Gives a person's own key a new secret, and shows it once; the old secret stays valid for a day.

    A revoked key is not changed: the person is sent back to the list of keys.
    """
    try:
        key, text = self_service.rotate_key(person, key_id, ROTATION_GRACE)
    except ValidationError:  # it is revoked
        return HttpResponseRedirect(reverse("my_usage:show"))
    return _show_secret(request, key, text, is_rotated=True)


@require_POST
@for_person
def revoke(request: HttpRequest, person: User, key_id: int) -> HttpResponse:
    """Revokes a person's own key, or one of a team that they lead, and sends the person back to the list of keys."""
    self_service.revoke_key(person, key_id)
    return HttpResponseRedirect(reverse("my_usage:show"))


@require_POST
@for_person
def set_budget(request: HttpRequest, person: User, key_id: int) -> HttpResponse:
    """Sets the budget per month of a key in a team that the person leads.

    An invalid amount changes nothing and gets status 400.
    """
    form = BudgetForm(request.POST)
    if not form.is_valid():
        return HttpResponse("The budget is no amount of dollars.", status=400, content_type="text/plain")
    self_service.set_budget(person, key_id, form.cleaned_data["budget_month"])
    return HttpResponseRedirect(reverse("my_usage:show"))


def _show_secret(request: HttpRequest, key: AccessKey, text: str, *, is_rotated: bool = False) -> HttpResponse:
    """Renders the page with a key's new secret, which is shown only once."""
    context = {"handover": Handover(key, text, base_url(request)), "is_rotated": is_rotated}
    return render(request, "my_usage/new_key.html", context)


def facts_for(person: User, key: AccessKey) -> KeyFacts:
    """Returns the facts on a key's usage page for `person`: the owner of the key, or the lead of its team.

    Single calls are shown only to the owner, and only calls that were made while this person owned the key.
    """
    facts = KeyFacts.of(key, is_own=True, sees_calls=key.owner_user_id == person.pk)
    # The text of an error may quote a prompt, and the key may have been another person's.
    return replace(facts, owner=person.get_username(), calls_url=reverse("my_usage:key_calls", args=[key.pk]))
