"""The actions of the management API (`/api`) on keys and teams; they follow the same rules as the pages of the admin.

Each action is one transaction, which includes the entry in the audit log. At its beginning the API token and the rights
of the token's user are read again, so that an expired token or a right that was taken away permits no action.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib.admin.models import ADDITION, CHANGE
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from rest_framework import serializers

from proxyapi.exceptions import AlreadyExists, BadRequest, InvalidBearer, NotFound, NotPermitted
from proxyapi.key_names import normalised
from proxyapi.keys.audit_log import log_token_change
from proxyapi.management.api_fields import KeyFields, SpenderFields, TeamFields, refusal_of
from proxyapi.models import AccessKey, ApiToken
from proxyapi.team_models import SpenderColumns, Team
from usage.admin_pages.audit_words import columns_in_words

Json = dict[str, object]
MOST_ROWS, USUAL_ROWS = 100, 20  # of one answer with a list, as in OpenAI's API
FIXED_WHEN_REVOKED = ("active", "expires_at")


class Resource(NamedTuple):
    """A table of the management API (keys or teams): its model, and the serializer class of its JSON objects."""

    model: type[AccessKey] | type[Team]
    fields: type[SpenderFields]

    @property
    def rows(self) -> QuerySet[Any]:
        """All rows of the table of keys or teams, joined with the other tables that their JSON objects need."""
        if self.model is Team:
            return Team.objects.prefetch_related("memberships__user")
        return AccessKey.objects.select_related("team", "owner_user")

    @property
    def word(self) -> str:
        """The word for one row of the table of keys or teams: `key` or `team`."""
        return self.fields.kind


class Task(NamedTuple):
    """One request to the management API: the API token, the table and row that it is about, and the fields sent."""

    token: ApiToken
    resource: Resource
    name: str
    sent: Mapping[str, object]
    query: Mapping[str, str]

    def find_row(self) -> Any:
        """Returns the row of the key or team that the request names, locked until the transaction ends.

        Raises:
            NotFound: there is no such row.
        """
        row = self.resource.model.objects.find(self.name) if self.name.isprintable() else None
        if row is None:
            raise NotFound(f"There is no {self.resource.word} with this name.")
        return row

    def shown(self, row: SpenderColumns) -> Json:
        """Returns the JSON object that shows a row (a key or a team) in an answer."""
        return dict(self.resource.fields(row).data)

    def log(self, row: SpenderColumns, words: str, action: int = CHANGE) -> None:
        """Adds an entry about a change of a row (a key or a team) to the admin's audit log."""
        log_token_change(row, action, words, self.token)


def list_rows(task: Task) -> Json:
    """Returns a page of the list of keys or teams, ordered by name, in the form of OpenAI's lists.

    The query may have `limit` (1 to 100 rows), `after` (only later names) and, for keys, `team` (only those of this
    team).

    Raises:
        BadRequest: a parameter of the query is unknown or wrong.
    """
    allowed = {"limit", "after"} | ({"team"} if task.resource.model is AccessKey else set())
    if unknown := sorted(set(task.query) - allowed):
        raise BadRequest(f"Unknown parameter: '{unknown[0][:100]}'.", param=unknown[0][:100], code="unknown_parameter")
    limit = task.query.get("limit", str(USUAL_ROWS))
    if not (re.fullmatch("[0-9]{1,9}", limit) and 1 <= int(limit) <= MOST_ROWS):
        raise BadRequest(f"'limit' is 1 to {MOST_ROWS}.", param="limit", code="invalid_value")
    for name in ("after", "team"):
        if not task.query.get(name, "").isprintable():
            raise BadRequest(f"'{name}' is the name of a {name}.", param=name, code="invalid_value")
    rows = task.resource.rows
    if after := task.query.get("after"):
        rows = rows.filter(name__gt=after)
    if team := task.query.get("team"):
        rows = rows.filter(team__name=normalised(team))
    found = list(rows.order_by("name")[: int(limit) + 1])
    shown = [task.shown(row) for row in found[: int(limit)]]
    ends = (
        {"first_id": shown[0]["name"], "last_id": shown[-1]["name"]} if shown else {"first_id": None, "last_id": None}
    )
    return {"object": "list", "data": shown, **ends, "has_more": len(found) > len(shown)}


def create(task: Task) -> Json:
    """Creates a key or a team, and returns its JSON object; the object of a new key includes the secret, as `key`.

    Raises:
        AlreadyExists: another key or team has this name, or a name that looks the same.
        ValidationError: a field is wrong.
    """
    fields = task.resource.fields(data=task.sent)
    fields.is_valid(raise_exception=True)
    values = dict(fields.validated_data)
    name = values.pop("name")
    if task.resource.model.objects.is_taken(normalised(name)):
        raise already_exists(task.resource)
    secret: Json = {}
    row: SpenderColumns
    if task.resource.model is AccessKey:
        row, secret["key"] = AccessKey.objects.issue(name, **values)
    else:
        row = Team.objects.found(name, **values)
    columns = ["name", *(column for column in values if column != "upstream_key"), "sealed_upstream_key"]
    task.log(row, columns_in_words(row, {}, columns), ADDITION)
    return {**task.shown(row), **secret}


def read(task: Task) -> Json:
    """Returns the JSON object of the key or team that the request names; raises `NotFound` if there is none."""
    return task.shown(task.find_row())


def change(task: Task) -> Json:
    """Changes the fields that were sent, and returns the new JSON object of the key or team.

    Raises:
        NotFound: there is no such row.
        ValidationError: a field is wrong, or cannot be changed because the key is revoked.
    """
    row = task.find_row()
    if isinstance(row, AccessKey) and row.revoked_at is not None:
        for name in FIXED_WHEN_REVOKED:
            if name in task.sent:
                raise ModelValidationError({name: "The key is revoked permanently."})
    fields = task.resource.fields(row, data=task.sent, partial=True)
    fields.is_valid(raise_exception=True)
    values = dict(fields.validated_data)
    upstream_key = values.pop("upstream_key", None)
    columns = [*values, *(() if upstream_key is None else ("sealed_upstream_key",))]
    before = {name: getattr(row, name) for name in columns}
    for name, value in values.items():
        setattr(row, name, value)
    if upstream_key is not None:
        row.set_upstream_key(upstream_key)
    row.full_clean()
    if changed := [name for name in columns if getattr(row, name) != before[name]]:
        row.save(update_fields=changed)
        task.log(row, columns_in_words(row, before, changed))
    return task.shown(row)


def rotate(task: Task) -> Json:
    """Gives a key a new secret, and returns its JSON object with the secret, as `key`.

    The old secret stays valid for the seconds in the request's field `grace_seconds`; 0 by default.

    Raises:
        NotFound: there is no such key.
        ValidationError, BadRequest: the key is revoked, or a field of the request is wrong or unknown.
    """
    only_fields(task, "grace_seconds")
    seconds = task.sent.get("grace_seconds", 0)
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds < 10**9:
        raise ModelValidationError({"grace_seconds": "'grace_seconds' is a number of seconds."})
    key: AccessKey = task.find_row()
    secret = key.rotate(timedelta(seconds=seconds))
    end = key.previous_valid_until
    old = f"valid until {end:%Y-%m-%d %H:%M} UTC" if end else "no longer valid"
    task.log(key, f"Rotated; the old key is {old}.")
    return {**task.shown(key), "key": secret}


def revoke(task: Task) -> Json:
    """Revokes a key for ever, and returns its JSON object; does nothing to a key that is revoked already.

    Raises `NotFound` if there is no such key, and `BadRequest` if the request's body has a field.
    """
    only_fields(task)
    key: AccessKey = task.find_row()
    if key.revoked_at is None:
        key.revoke()
        task.log(key, "Revoked.")
    return task.shown(key)


def archive(task: Task) -> Json:
    """Archives a team, and returns its JSON object. Calls of the team's keys are then refused.

    Raises `NotFound` if there is no such team, and `BadRequest` if the request's body has a field.
    """
    return _set_active(task, False)


def restore(task: Task) -> Json:
    """Makes an archived team active again, and returns its JSON object.

    Raises `NotFound` if there is no such team, and `BadRequest` if the request's body has a field.
    """
    return _set_active(task, True)


def _set_active(task: Task, active: bool) -> Json:
    only_fields(task)
    team: Team = task.find_row()
    if team.active is not active:
        team.active = active
        team.save(update_fields=["active"])
        task.log(team, "Made active again." if active else "Archived.")
    return task.shown(team)


def only_fields(task: Task, *names: str) -> None:
    """Raises `BadRequest` if a request's body has a field that is not one of `names`."""
    if unknown := sorted(set(task.sent) - set(names)):
        words = f"The field '{unknown[0][:100]}' is unknown."
        raise BadRequest(words, param=unknown[0][:100], code="unknown_parameter")


def already_exists(resource: Resource) -> AlreadyExists:
    """Creates the error 409 for a new key or team whose name is taken."""
    return AlreadyExists(
        f"There is a {resource.word} with this name already, perhaps in another spelling.", param="name"
    )


RESOURCES = {"keys": Resource(AccessKey, KeyFields), "teams": Resource(Team, TeamFields)}
# Each action with the right on its table that the token's user needs.
ACTIONS: dict[str, tuple[str, Callable[[Task], Json]]] = {
    "list": ("view", list_rows),
    "create": ("add", create),
    "read": ("view", read),
    "change": ("change", change),
    "rotate": ("change", rotate),
    "revoke": ("change", revoke),
    "archive": ("change", archive),
    "restore": ("change", restore),
}


def perform(
    token: ApiToken, table: str, action: str, *, name: str, sent: Mapping[str, object], query: Mapping[str, str]
) -> Json:
    """Performs an action of the management API in one transaction, and returns the JSON object to answer with.

    `table` is one of `RESOURCES`, `action` one of `ACTIONS`; `name` is that of the key or team, `sent` the request's
    body. Changes are recorded in the audit log.

    Raises:
        InvalidBearer: the token is no longer valid, for example because it was revoked since the request began.
        NotPermitted: the token has no scope for this action, or its user no right to it.
        NotFound, AlreadyExists, BadRequest: the row does not exist, exists already, or a field or parameter is wrong.
    """
    resource, (right, run) = RESOURCES[table], ACTIONS[action]
    try:
        with transaction.atomic():
            current = ApiToken.objects.select_related("user").filter(pk=token.pk).first()
            if current is None or current.state() != "active":
                raise InvalidBearer
            check_rights(current, table, right)
            return run(Task(current, resource, name, sent, query))
    except (serializers.ValidationError, ModelValidationError) as error:
        raise refusal_of(error) from None
    except IntegrityError as error:  # another request has made one with this name meanwhile
        raise already_exists(resource) from error


def check_rights(token: ApiToken, table: str, right: str) -> None:
    """Checks that an API token's scopes, and the present rights of its user, allow an action on a table.

    `right` is `view`, `add` or `change`; whoever may change may view, too, as in the admin.

    Raises:
        NotPermitted: the scopes or the user's rights do not allow the action.
    """
    scope = f"{table}:{'read' if right == 'view' else 'write'}"
    if scope not in token.scopes:
        raise NotPermitted(f"This needs an API token with the scope {scope}.", code="missing_scope")
    model = RESOURCES[table].model._meta.model_name
    wanted = {right, "change"} if right == "view" else {right}
    if not any(token.user.has_perm(f"proxyapi.{one}_{model}") for one in wanted):
        raise NotPermitted(f"The user of this API token may not {right} {table}.")
