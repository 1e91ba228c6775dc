"""The management API, by which scripts make and change keys and teams: `/api/keys` and `/api/teams`.

A request needs an API token, which is made in the admin; the key of a caller is not accepted. A request is no call, so
it has no row in the ledger. The actions themselves are in `proxyapi.management.api_actions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request

from proxyapi import openapi, sealing
from proxyapi.call.call_request import ProxyRequest
from proxyapi.call.request_body import SMALL_BODY_BYTES
from proxyapi.dispatch.authentication import ApiTokenAuthentication
from proxyapi.dispatch.base_view import NEGOTIATOR, BodyUse, ProxyView
from proxyapi.exceptions import UnsupportedMediaType
from proxyapi.models import ApiToken
from proxyapi.openapi import BODY_ERRORS, JSON, LIST, NUMBER, PAGE_ERRORS, SWITCH, TEXT, Schema, described
from proxyapi.pages.reports import read_from_database

PAGE = {"limit": "1 to 100; default: 20.", "after": "Only rows behind this name: the `last_id` of the page before."}
OF_KEYS = {**PAGE, "team": "Only the keys of this team."}
READ_ERRORS = (*PAGE_ERRORS, 401)
WRITE_ERRORS = (*READ_ERRORS, *BODY_ERRORS)
TAGS = ("keys and teams",)
NAMES: Schema = {"type": "array", "items": TEXT}
DOLLARS = described({"type": ["string", "number", "null"]}, "Dollars; null: no limit.")
LIMIT: Schema = {"type": ["integer", "null"], "minimum": 1}
SHARED: dict[str, Schema] = {
    "note": TEXT,
    "tags": NAMES,
    "active": SWITCH,
    "allowed_models": described(NAMES, "Names or patterns; empty: all."),
    "allowed_routes": described(NAMES, "Routes or patterns; empty: all."),
    "requests_per_minute": LIMIT,
    "tokens_per_minute": LIMIT,
    "parallel_calls": LIMIT,
    "budget_day": DOLLARS,
    "budget_month": DOLLARS,
    "budget_total": DOLLARS,
    "log_bodies": {"type": "string", "enum": ["inherit", "all", "errors", "none"]},
    "upstream_key": described({"type": ["string", "null"]}, "Its own upstream key. Never shown; null removes it."),
}
OF_A_KEY: dict[str, Schema] = {
    **SHARED,
    "team": described({"type": ["string", "null"]}, "The name of its team."),
    "owner": TEXT,
    "owner_user": described(
        {"type": ["string", "null"]}, "The user name of the owner's account; it becomes the `owner`."
    ),
    "expires_at": described({"type": ["string", "null"], "format": "date-time"}, "ISO 8601; null: never."),
    "shared_objects": described(NAMES, "Ids or patterns of objects that it may read beside its own."),
    "max_output_tokens": LIMIT,
    "min_output_tokens": LIMIT,
}
OF_A_TEAM: dict[str, Schema] = {
    **SHARED,
    "self_service": SWITCH,
    "keys_per_member": LIMIT,
    "member_key_budget_month": DOLLARS,
}
ROWS: Schema = {
    "type": "object",
    "properties": {"object": TEXT, "data": LIST, "first_id": TEXT, "last_id": TEXT, "has_more": SWITCH},
}


def fields(properties: dict[str, Schema], *required: str) -> dict[str, Schema]:
    """Builds the OpenAPI schema of a JSON body with the fields `properties`, of which `required` must be there.

    Other fields are forbidden.
    """
    body: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {JSON: {**body, "required": [*required]} if required else body}


class ManagementView(ProxyView):
    """Base class of the views of the management API: finds the API token, receives the body, and runs an action.

    `table` is the table that the view is about, `keys` or `teams`.
    """

    authentication_classes = (ApiTokenAuthentication,)
    body_use = BodyUse.SMALL
    table: ClassVar[str]

    async def admit(self, request: ProxyRequest) -> None:
        """Finds the request's API token, and receives the body; the body of a GET or HEAD is left unread.

        Raises:
            InvalidBearer: there is no valid API token.
            UnsupportedMediaType: the Content-Type of the body is not that of JSON.
            DatabaseUnavailable: the database, which has the tokens, cannot be read.
            BodyTooLarge: the body has more than `SMALL_BODY_BYTES`.
            ProxyError: one of the errors of `read_body`, such as `RequestTimeout`.
        """
        # The token is first: nothing of a stranger's body is received.
        call = request.call_request
        ApiTokenAuthentication().check_form(request)  # here on the event loop: a stranger gets no thread
        reader = sealing.digest(call.META["HTTP_AUTHORIZATION"])  # the token's user is not known yet
        request.caller, request.auth = await read_from_database(lambda: self._authenticate(request), reader)
        call.mark_sender_known()
        if call.method in ("GET", "HEAD"):
            call.leave_body()
            return
        if call.announces_body and NEGOTIATOR.select_parser(request, request.parsers or ()) is None:
            raise UnsupportedMediaType('The body of this request is JSON, of the content type "application/json".')
        call.incoming_body.lower_limit(SMALL_BODY_BYTES)
        await call.read_body()

    def _authenticate(self, request: Request) -> Any:
        """Returns the caller and the API token of a request. Call this in a thread, since it queries the database."""
        return ApiTokenAuthentication().authenticate(request)

    async def perform(self, request: ProxyRequest, action: str, name: str = "") -> HttpResponse:
        """Runs an action of `proxyapi.management.api_actions`, and returns the response with its JSON object."""
        sent = request.data if request.call_request.decoded_body else {}
        token = cast(ApiToken, request.auth)
        query = request.query_params.dict()
        found = await read_from_database(
            lambda: _perform(token, self.table, action, name, sent, query), f"/api {token.pk}"
        )
        return JsonResponse(found, headers={"Cache-Control": "no-store"})


def _perform(
    token: ApiToken, table: str, action: str, name: str, sent: Mapping[str, object], query: dict[str, str]
) -> dict[str, object]:
    """Runs an action of the management API. Call this in a thread, since it queries the database."""
    # Imported here: the first request loads it with the framework's fields, and a worker at rest does without.
    from proxyapi.management import api_actions

    return api_actions.perform(token, table, action, name=name, sent=sent, query=query)


class KeysView(ManagementView):
    """View of `/api/keys`: lists the keys, and makes one."""

    table = "keys"

    @openapi.operation("List keys", answers={JSON: ROWS}, query=OF_KEYS, tags=TAGS, errors=READ_ERRORS)
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return await self.perform(request, "list")

    @openapi.operation(
        "Make a key; the answer alone has its secret, as `key`",
        request=fields({"name": TEXT, **OF_A_KEY}, "name"),
        example={"name": "ada", "budget_month": "20", "allowed_models": ["gpt-4o*"]},
        tags=TAGS,
        errors=(*WRITE_ERRORS, 409),
    )
    async def post(self, request: ProxyRequest) -> HttpResponse:
        return await self.perform(request, "create")


class KeyView(ManagementView):
    """View of `/api/keys/{name}`: shows one key, and changes it."""

    table = "keys"

    @openapi.operation("Read a key", tags=TAGS, errors=(*READ_ERRORS, 404))
    async def get(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "read", name)

    @openapi.operation(
        "Change a key; only the fields that are sent, and null empties one",
        request=fields(OF_A_KEY),
        example={"budget_month": "30", "expires_at": None},
        tags=TAGS,
        errors=(*WRITE_ERRORS, 404),
    )
    async def patch(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "change", name)


class RotateKeyView(ManagementView):
    """View of `/api/keys/{name}/rotate`: gives a key a new secret."""

    table = "keys"

    @openapi.operation(
        "Rotate a key; the answer alone has its new secret, as `key`",
        request=fields({"grace_seconds": described(NUMBER, "How long the old secret goes on; default: 0.")}),
        example={"grace_seconds": 86400},
        tags=TAGS,
        errors=(*WRITE_ERRORS, 404),
    )
    async def post(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "rotate", name)


class RevokeKeyView(ManagementView):
    """View of `/api/keys/{name}/revoke`: revokes a key for ever."""

    table = "keys"

    @openapi.operation("Revoke a key permanently", tags=TAGS, errors=(*WRITE_ERRORS, 404))
    async def post(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "revoke", name)


class TeamsView(ManagementView):
    """View of `/api/teams`: lists the teams, and makes one."""

    table = "teams"

    @openapi.operation("List teams", answers={JSON: ROWS}, query=PAGE, tags=TAGS, errors=READ_ERRORS)
    async def get(self, request: ProxyRequest) -> HttpResponse:
        return await self.perform(request, "list")

    @openapi.operation(
        "Make a team",
        request=fields({"name": TEXT, **OF_A_TEAM}, "name"),
        example={"name": "team a", "budget_month": "200"},
        tags=TAGS,
        errors=(*WRITE_ERRORS, 409),
    )
    async def post(self, request: ProxyRequest) -> HttpResponse:
        return await self.perform(request, "create")


class TeamView(ManagementView):
    """View of `/api/teams/{name}`: shows one team, and changes it."""

    table = "teams"

    @openapi.operation("Read a team", tags=TAGS, errors=(*READ_ERRORS, 404))
    async def get(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "read", name)

    @openapi.operation(
        "Change a team; only the fields that are sent, and null empties one",
        request=fields(OF_A_TEAM),
        example={"budget_month": "300"},
        tags=TAGS,
        errors=(*WRITE_ERRORS, 404),
    )
    async def patch(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "change", name)


class ArchiveTeamView(ManagementView):
    """View of `/api/teams/{name}/archive`: archives a team; calls of its keys are then refused."""

    table = "teams"

    @openapi.operation("Archive a team", tags=TAGS, errors=(*WRITE_ERRORS, 404))
    async def post(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "archive", name)


class RestoreTeamView(ManagementView):
    """View of `/api/teams/{name}/restore`: makes an archived team active again."""

    table = "teams"

    @openapi.operation("Make an archived team active again", tags=TAGS, errors=(*WRITE_ERRORS, 404))
    async def post(self, request: ProxyRequest, name: str) -> HttpResponse:
        return await self.perform(request, "restore", name)
