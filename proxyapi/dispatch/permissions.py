"""Checks the routes and models that a key may use, by its globs, in memory. Upper and lower case differ."""

from __future__ import annotations

from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi.call.call_request import ProxyRequest
from proxyapi.exceptions import ModelNotAllowed, RouteNotAllowed
from proxyapi.keys.globs import is_allowed
from proxyapi.keys.keyring import Caller


class RouteAllowed(BasePermission):
    """Permission of Django REST framework: allows a request if its key may use the route."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        call = cast(ProxyRequest, request)
        check_route(call.caller, call.call_request.route)
        return True


def check_route(caller: Caller, route: str) -> None:
    """Checks that the caller's key may use a route, such as `/v1/responses/{id}`.

    Raises:
        RouteNotAllowed: the key may not use the route.
    """
    if not is_allowed(route, caller.allowed_routes):
        raise RouteNotAllowed(f"This key may not use {route}.")


def check_model(caller: Caller, model: str) -> None:
    """Checks that the caller's key may use `model`: the model that a call names, or the gateway's default model.

    An empty `model` means that neither names one; a key limited to some models is then refused.

    Raises:
        ModelNotAllowed: the key may not use the model; the error's `param` is `model`.
    """
    # Without a name, upstream would choose the model, for example from a prompt template.
    if not is_allowed(model, caller.allowed_models):
        words = f"This key may not use the model '{model[:200]}'."
        raise ModelNotAllowed(words if model else "This key must name a model that it may use.", param="model")
