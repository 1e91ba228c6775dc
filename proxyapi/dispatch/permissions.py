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
    """Allows a request if its key may use its route, by the route's name in the ledger."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        call = cast(ProxyRequest, request)
        check_route(call.caller, call.call_request.route)
        return True


def check_route(caller: Caller, route: str) -> None:
    """Raises `RouteNotAllowed` if the key may not use the route."""
    if not is_allowed(route, caller.allowed_routes):
        raise RouteNotAllowed(f"This key may not use {route}.")


def check_model(caller: Caller, model: str) -> None:
    """Checks the model that a call makes run: the one that it names, or the gateway's default.

    A key that is limited to some models must name one: with a prompt template, for example, upstream would choose it.

    Raises:
        ModelNotAllowed: the key may not use it; `param` is `model`.
    """
    if not is_allowed(model, caller.allowed_models):
        words = f"This key may not use the model '{model[:200]}'."
        raise ModelNotAllowed(words if model else "This key must name a model that it may use.", param="model")
