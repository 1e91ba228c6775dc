"""The JSON objects by which the management API (`/api`) shows and changes keys and teams: their fields and checks.

Each field has the rules of its column, as on the pages of the admin. An unknown field is refused, since a misspelt
limit would be no limit. A field sent as null gets the value that it has in a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as ModelValidationError
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from proxyapi.exceptions import BadRequest
from proxyapi.key_names import normalised
from proxyapi.models import AccessKey
from proxyapi.team_models import SpenderColumns, Team, TeamMember, check_upstream_key

MAX_MESSAGE = 500  # characters of what an error quotes
SHARED = (
    "note", "tags", "active", "allowed_models", "allowed_routes", "requests_per_minute", "tokens_per_minute",
    "parallel_calls", "budget_day", "budget_month", "budget_total", "log_bodies",
)  # fmt: skip
OF_KEYS = ("team", "owner", "owner_user", "expires_at", "shared_objects", "max_output_tokens", "min_output_tokens")
OF_TEAMS = ("self_service", "keys_per_member", "member_key_budget_month")
SHOWN_ONLY = ("own_upstream_key", "created_at", "changed_at")
UNKNOWN = "unknown"
CODES = {"required": "missing_required_parameter", UNKNOWN: "unknown_parameter"}  # by the framework's code
NAME_OPTIONS: dict[str, dict[str, object]] = {"name": {"validators": []}}  # the model checks names
NEVER_CHANGES = "A name never changes: the ledger refers to it."


class SpenderFields(serializers.ModelSerializer[Any]):
    """Base class of the serializers of keys and of teams in the management API: the fields that both have.

    `upstream_key` can be set, or removed with null, but is never shown. `own_upstream_key` says whether there is one.
    """

    kind = ""  # the value of `object`
    state = serializers.ReadOnlyField()
    upstream_key = serializers.CharField(
        write_only=True, required=False, allow_blank=True, validators=[check_upstream_key]
    )
    own_upstream_key = serializers.SerializerMethodField()

    def get_own_upstream_key(self, row: SpenderColumns) -> bool:
        """Returns whether a key or a team has an upstream key of its own."""
        return bool(row.sealed_upstream_key)

    def to_representation(self, row: SpenderColumns) -> dict[str, object]:
        """Returns the JSON object of a key or a team; its member `object` says which of the two it is."""
        return {"object": self.kind, **super().to_representation(row)}

    def to_internal_value(self, data: Mapping[str, object]) -> Any:
        """Checks the fields that were sent, and converts them to values of columns.

        Raises:
            ValidationError: a field is unknown or wrong, or would change the name.
        """
        writable = {name for name, field in self.fields.items() if not field.read_only}
        if unknown := sorted(set(data) - writable):
            what = "can only be read" if unknown[0] in self.fields else "is unknown"
            words = f"The field '{unknown[0][:100]}' {what}."
            raise serializers.ValidationError({unknown[0][:100]: [ErrorDetail(words, UNKNOWN)]})
        sent = {name: self._without_value(name) if value is None else value for name, value in data.items()}
        if self.instance is not None and normalised(str(sent.pop("name", self.instance.name))) != self.instance.name:
            raise serializers.ValidationError({"name": [NEVER_CHANGES]})
        return super().to_internal_value(sent)

    def _without_value(self, name: str) -> object:
        """Returns the value to store for a field that was sent as null.

        For the name and for fields that may be null, this is None; for the upstream key, an empty text; for any other
        field, the default of its column.
        """
        if self.fields[name].allow_null or name == "name":
            return None
        return "" if name == "upstream_key" else self.Meta.model._meta.get_field(name).get_default()  # type: ignore[attr-defined]  # of the subclasses


class TeamOfKey(serializers.SlugRelatedField[Team]):
    """Serializer field for a key's team: the team's name.

    It accepts an archived team only if the key belongs to it already.
    """

    def to_internal_value(self, data: object) -> Team:
        team = Team.objects.find(data, lock=False) if isinstance(data, str) and data.isprintable() else None
        if team is None:
            raise serializers.ValidationError("There is no such team.")
        key = self.parent.instance if self.parent is not None else None
        if not team.active and (key is None or key.team_id != team.pk):
            raise serializers.ValidationError("This team is archived.")
        return team


class OwnerOfKey(serializers.SlugRelatedField[User]):
    """Serializer field for the account that owns a key: its user name."""

    def to_internal_value(self, data: object) -> User:
        if not isinstance(data, str) or not data.isprintable():
            raise serializers.ValidationError("There is no such user.")
        return super().to_internal_value(data)


class KeyFields(SpenderFields):
    """Serializer for a key in the management API: checks the fields of a request, and makes the JSON for the answer.

    The JSON never has the key's secret. Only the answer to making or rotating a key adds it.
    """

    kind = "key"
    hint = serializers.ReadOnlyField(source="masked")
    team = TeamOfKey(slug_field="name", queryset=Team.objects.all(), required=False, allow_null=True)

    owner_user = OwnerOfKey(slug_field="username", queryset=User.objects.all(), required=False, allow_null=True)

    class Meta:
        model = AccessKey
        shown_only = ("hint", "state", *SHOWN_ONLY, "previous_valid_until", "revoked_at")
        fields = ("name", *shown_only, *SHARED, *OF_KEYS, "upstream_key")
        read_only_fields = shown_only
        extra_kwargs = NAME_OPTIONS


class MemberFields(serializers.ModelSerializer[TeamMember]):
    """Serializer of one member in the JSON of a team: the user's name, and the role in the team."""

    user = serializers.ReadOnlyField(source="user.username")

    class Meta:
        model = TeamMember
        fields = ("user", "role")


class TeamFields(SpenderFields):
    """Serializer of a team, with its members, in the management API; members can be changed in the admin only."""

    kind = "team"
    members = MemberFields(source="memberships", many=True, read_only=True)

    class Meta:
        model = Team
        shown_only = ("state", *SHOWN_ONLY, "members")
        fields = ("name", *shown_only, *SHARED, *OF_TEAMS, "upstream_key")
        read_only_fields = shown_only
        extra_kwargs = NAME_OPTIONS


def refusal_of(error: serializers.ValidationError | ModelValidationError) -> BadRequest:
    """Converts an error of a serializer or a model to the gateway's error 400.

    Its message is the first one in `error`, and its `param` names the wrong field, if one is known.
    """
    if isinstance(error, ModelValidationError):
        faults = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
        name, (words, *_) = next(iter(faults.items()))
        return BadRequest(words[:MAX_MESSAGE], param=None if name == NON_FIELD_ERRORS else name, code="invalid_value")
    detail: Any = error.detail
    param = next(iter(detail)) if isinstance(detail, dict) else None
    fault = _first_fault(detail)
    code = CODES.get(fault.code or "", "invalid_value")
    words = f"Missing required parameter: '{param}'." if fault.code == "required" else str(fault)
    return BadRequest(words[:MAX_MESSAGE], param=param if param is None else str(param), code=code)


def _first_fault(detail: Any) -> ErrorDetail:
    """Returns the first message in the nested lists and dictionaries of a Django REST framework error."""
    while not isinstance(detail, str):
        detail = next(one for one in (detail.values() if isinstance(detail, dict) else detail) if one)
    return detail if isinstance(detail, ErrorDetail) else ErrorDetail(detail)
