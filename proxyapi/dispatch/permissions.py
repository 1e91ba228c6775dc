"""Owns what a key may do: which routes and which models, by glob, in memory. Upper and lower case differ."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi.call.call_request import ProxyRequest
from proxyapi.exceptions import ModelNotAllowed, RouteNotAllowed
from proxyapi.keys.globs import matches_any
from proxyapi.keys.keyring import Caller


class RouteAllowed(BasePermission):
    """The call's route, as the ledger names it, is one of the key's."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        call = cast(ProxyRequest, request)
        check_route(call.caller, call.call_request.route)
        return True


def check_route(caller: Caller, route: str) -> None:
    """Raises `RouteNotAllowed`."""
    if not is_allowed(route, caller.allowed_routes):
        raise RouteNotAllowed(f"This key may not use {route}.")


def check_model(caller: Caller, model: str) -> None:
    """For a call that makes something: the model it names, or that we fill in.

    A key that is limited to some models must name one: with a prompt template, for example, upstream would choose it.

    Raises:
        ModelNotAllowed: it may not; `param` is `model`.
    """
    if not is_allowed(model, caller.allowed_models):
        words = f"This key may not use the model '{model[:200]}'."
        raise ModelNotAllowed(words if model else "This key must name a model that it may use.", param="model")


def is_allowed(name: str, globs: Collection[str]) -> bool:
    """Whether one of the globs matches; without any, everything is allowed."""
    return not globs or matches_any(name, globs)
