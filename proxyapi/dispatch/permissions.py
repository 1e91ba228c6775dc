"""Checks whether a key and its team may use a route or a model. The rules are globs such as `gpt-4o*`; case matters."""

from __future__ import annotations

from itertools import islice
from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from proxyapi.call.call_request import ProxyRequest
from proxyapi.exceptions import ModelNotAllowed, RouteNotAllowed, TeamArchived
from proxyapi.keys.callers import Caller, Ceilings, is_archived
from proxyapi.keys.globs import is_allowed

MAX_NAMED = 10  # patterns of models in the message of a refusal


class RouteAllowed(BasePermission):
    """Permission of Django REST framework: allows a request if its key and the key's team may use the route.

    Otherwise raises `RouteNotAllowed` or, if the key's team is archived, `TeamArchived`.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        call = cast(ProxyRequest, request)
        check_route(call.caller, call.call_request.route)
        return True


def check_route(caller: Caller, route: str) -> None:
    """Checks that the caller's key and its team may use a route, such as `/v1/responses/{id}`.

    Raises:
        TeamArchived: the key's team is archived.
        RouteNotAllowed: the key or its team may not use the route.
    """
    for ceilings in caller.route_ceilings:
        if is_archived(ceilings):
            raise TeamArchived(param="team")
        if not is_allowed(route, ceilings.allowed_routes):
            raise RouteNotAllowed(f"{ceilings.words.capitalize()} may not use {route}.", param=ceilings.param)


def check_model(caller: Caller, model: str) -> None:
    """Checks that the caller's key and its team may use `model`.

    An empty `model` stands for a call that names no model. Such a call is refused if the key or team is limited to some
    models.

    Raises:
        ModelNotAllowed: the key or its team may not use the model; the error's `param` is `model`.
    """
    # Without a name, upstream would choose the model, for example from a prompt template.
    for ceilings in caller.model_ceilings:
        if not is_allowed(model, ceilings.allowed_models):
            who = ceilings.words.capitalize()
            words = f"{who} may not use the model '{model[:200]}'."
            if not model:
                words = f"Calls of {ceilings.words} must name a model that it may use."
            allowed = " ".join(_allowed_words(each) for each in caller.model_ceilings)  # a model must be in both lists
            raise ModelNotAllowed(f"{words} {allowed}", param="model")


def _allowed_words(ceilings: Ceilings) -> str:
    """Returns a sentence that tells a refused caller which models its key or team may use.

    It lists at most `MAX_NAMED` patterns; `and others` stands for the rest.
    """
    named = list(islice(ceilings.allowed_models, MAX_NAMED))
    others = " and others" if len(ceilings.allowed_models) > len(named) else ""
    return f"{ceilings.words.capitalize()} allows: {', '.join(named)}{others}."


def may_use_model(caller: Caller, model: str) -> bool:
    """Returns whether the caller's key and its team may use `model`."""
    return all(is_allowed(model, ceilings.allowed_models) for ceilings in caller.model_ceilings)
