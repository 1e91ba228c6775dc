"""`/v1`: OpenAI's own API, passed through; a client needs to change its base URL and its key only.

The order of a call: key checked → route open? → body received (a form: on its way up already) → policy reads a
copy → budget (of a form: when all of it is here but its last piece) → `Call.begin` → upstream → the answer passes →
`Call.end`. Bytes pass unchanged; `proxyapi.stream_usage` has the one exception.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

import orjson
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication

from proxyapi import fields, json_members, openapi, stream_usage
from proxyapi.authentication import BearerAuthentication
from proxyapi.capacity import capacity
from proxyapi.exceptions import BadJSON, NotFound, UnsupportedMediaType, WebSocketRefused
from proxyapi.families import Route, find_route
from proxyapi.headers import pass_up
from proxyapi.json_members import Member
from proxyapi.parsers import short_fault
from proxyapi.permissions import check_model, is_allowed
from proxyapi.relay import CHAT_WITHOUT_USAGE, ERROR_OBJECT, RESPONSES, BodyRelay, Dialect, EventRelay, RelayResponse
from proxyapi.requests import ProxyRequest
from proxyapi.uploads import FormUpload
from proxyapi.upstream import UpstreamRequest
from proxyapi.views.base import CallView

OUR_QUERY_SECRETS = (b"security_key=", b"access_token=")


class PassThroughView(CallView):
    """Every route of every open family."""

    authentication_classes: tuple[type[BaseAuthentication], ...] = (BearerAuthentication,)
    http_method_names: ClassVar[list[str]] = ["get", "post", "delete", "options"]  # type: ignore[misc]  # Django's attribute
    route = "/v1/*"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        raw_path = self.call.request.raw_path.decode("ascii", "replace")
        self.found = find_route(raw_path.removeprefix("/v1"))
        if self.found is not None:
            self.call.route = self.found.name
            self.call.answer.states_usage = self.found.family.states_usage

    async def admit(self, request: ProxyRequest) -> None:
        """The key is in the head, so a stranger's body is not received at all."""
        capacity.check_room()
        self.let_in(request)

    @openapi.unlisted
    async def handle(self, request: ProxyRequest, path: str) -> HttpResponseBase:
        route = self.open_route(request)
        call = request.call_request
        upstream_request = UpstreamRequest(
            request.method or "",
            route.path,
            credentials=fields.caller_credentials(request.caller),
            deadline=asyncio.get_running_loop().time() + settings.REQUEST_TIMEOUT,
            query=passed_query(request),
            headers=pass_up(call.raw_headers),
        )
        dialect = RESPONSES if route.family.name == "responses" else ERROR_OBJECT
        if call.is_form:
            self.send_form(upstream_request)
        else:
            await call.read_body()
            members = read_json(call.raw_body, call.META.get("CONTENT_TYPE", ""))
            self.read_policy_fields(members, request)
            self.check_models([member.value for member in members if member.name == "model"])
            upstream_request.content = call.raw_body or None
            if route.name == "/v1/chat/completions" and self.call.stream:
                asked = stream_usage.ask(json_members.decode(call.raw_body), members)
                if asked is not None:
                    upstream_request.content, dialect = json_members.encode(asked), CHAT_WITHOUT_USAGE
        return await self.relayed(upstream_request, dialect)

    get = post = delete = handle

    def open_route(self, request: ProxyRequest) -> Route:
        if request.META.get("HTTP_UPGRADE", "").lower() == "websocket":
            raise WebSocketRefused
        route = self.found
        if route is None:
            raise NotFound(f"Unknown endpoint: {request.method} {request.path}")
        if route.family.name not in settings.V1_ROUTES:
            raise NotFound(f"/v1/{route.family.name} is closed on this gateway; its setting V1_ROUTES can open it.")
        return route

    def send_form(self, upstream_request: UpstreamRequest) -> None:
        """The form goes up as it arrives."""
        call = self.call.request
        self.call.form = upstream_request.upload = FormUpload(
            call.incoming_body, call.META["CONTENT_TYPE"], self.read_form_fields
        )
        assert upstream_request.headers is not None  # noqa: S101  (a call that passes through has its own)
        if call.incoming_body.announced is not None:
            upstream_request.headers["Content-Length"] = str(call.incoming_body.announced)

    def read_policy_fields(self, members: list[Member], request: ProxyRequest) -> None:
        models = [member.value for member in members if member.name == "model"]
        self.call.model = models[-1] if models and isinstance(models[-1], str) else ""
        streams = [member.value for member in members if member.name == "stream"]
        asked_in_query = request.query_params.get("stream", "").lower() in {"true", "1"}
        self.call.stream = streams[-1] is True if streams else asked_in_query

    async def read_form_fields(self, form: FormUpload) -> None:
        """All of it is here but its last piece: upstream cannot act on it yet, so policy is in time."""
        self.call.model = next(iter(form.field("model")), "")
        self.call.stream = "true" in map(str.lower, form.field("stream"))
        self.call.request.body_received()
        self.check_models(form.field("model"))
        assert self.found is not None  # noqa: S101  (it is open)
        await self.hold("POST", self.found.path, form.sizes())

    def check_models(self, models: list[Any]) -> None:
        """All of them, where a name is given twice: which one counts is upstream's to say."""
        route, caller = self.found, cast(ProxyRequest, self.request).caller
        assert route is not None  # noqa: S101  (it is open)
        if self.request.method == "POST" and route.makes_a_model_work:
            for model in models or [""]:
                check_model(caller, model if isinstance(model, str) else "")
        elif route.name == "/v1/models/{id}" and not is_allowed(route.last_id, caller.allowed_models):
            words = f"The model '{route.last_id[:200]}' does not exist or this key may not use it."
            raise NotFound(words, param="model", code="model_not_found")

    async def relayed(self, request: UpstreamRequest, dialect: Dialect) -> HttpResponseBase:
        answer = await self.ask(request)
        if answer.status == 200 and answer.is_event_stream:
            return RelayResponse(EventRelay(self.call, answer, dialect))
        if answer.is_text or answer.status >= 300:
            return await self.whole(answer, self.shown_models)
        return RelayResponse(BodyRelay(self.call, answer))

    def shown_models(self, body: bytes) -> bytes:
        """A list of models is shown to a key that is limited to some as the list of these; all else as it is."""
        allowed = cast(ProxyRequest, self.request).caller.allowed_models
        if self.call.route != "/v1/models" or not allowed:
            return body
        listed = orjson.loads(body)
        listed["data"] = [model for model in listed["data"] if is_allowed(model["id"], allowed)]
        return orjson.dumps(listed)


def passed_query(request: ProxyRequest) -> str:
    """The query as it came; but a key of ours that somebody put there stays here."""
    raw = request.call_request.raw_query
    if any(secret in raw for secret in OUR_QUERY_SECRETS):
        return fields.upstream_query(request.query_params)
    return raw.decode("ascii", "replace")


def read_json(body: bytes, content_type: str) -> list[Member]:
    """The members of a JSON body, for policy to look at; no body has none.

    Raises:
        UnsupportedMediaType: it does not say that it is JSON.
        BadJSON: it is none, or not an object.
    """
    if not body:
        return []
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in {"", "application/json"} and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"Unsupported media type '{media_type}': send application/json or a form.")
    try:
        return json_members.read_object(json_members.decode(body))
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:
        raise BadJSON(f"The request body is not valid JSON: {short_fault(error)}") from error
