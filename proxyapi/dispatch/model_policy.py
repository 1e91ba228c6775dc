"""Owns what a key may ask of upstream in a body of its own making: which models. (Whose objects: `object_access`.)

It looks at a copy; what passes is unchanged. Where a name is given twice all of its values must be allowed: which one
counts is upstream's to say.
"""

from __future__ import annotations

from typing import Any

from proxyapi.bodies import json_members, large_bodies
from proxyapi.bodies.json_members import Member
from proxyapi.bodies.model_places import UNSEEN_MODELS, WITHOUT_MODEL, NamedModels
from proxyapi.call.parsers import short_fault
from proxyapi.dispatch.permissions import check_model, is_allowed
from proxyapi.exceptions import BadJSON, NotFound, RouteNotAllowed, UnsupportedMediaType
from proxyapi.keys.keyring import Caller
from proxyapi.routes import find_route


async def read_json(body: bytes, content_type: str) -> list[Member]:
    """The members of a JSON body, for policy to look at; no body has none. A large one is read beside the event loop.

    Raises:
        UnsupportedMediaType: it does not say that it is JSON.
        BadJSON: it is none, or not an object.
        BodyTooLarge: it has more values than `proxyapi.bodies.large_bodies` allows.
    """
    if not body:
        return []
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in {"", "application/json"} and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"Unsupported media type '{media_type}': send application/json or a form.")
    try:
        return await large_bodies.run(len(body), _read_members, body)
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:
        raise BadJSON(f"The request body is not valid JSON: {short_fault(error)}") from error


def _read_members(body: bytes) -> list[Member]:
    if len(body) > large_bodies.LARGE_BYTES:
        large_bodies.check_bounds(body)
    return json_members.read_object(json_members.decode(body))


def values(members: list[Member], name: str) -> list[Any]:
    """All of them, where a name is given twice."""
    return [member.value for member in members if member.name == name]


def check_models(path: str, method: str, named: NamedModels, caller: Caller) -> None:
    """Checks all models that a request to upstream names, for a key that is limited to some.

    `path` is below upstream's base URL. A POST must name a model, by its own `model`, unless it is known to make none
    run: with a prompt template, upstream would choose it, and a path that is not known here may have a default.

    Raises:
        ModelNotAllowed: one is not allowed, or missing.
        RouteNotAllowed: models would run that the request does not name.
        NotFound: the path is about a model that is not allowed.
    """
    route = find_route(path)
    name = "" if route is None else route.name
    if route is not None and (asked_about := route.model_id) and not is_allowed(asked_about, caller.allowed_models):
        words = f"The model '{asked_about[:200]}' does not exist or this key may not use it."
        raise NotFound(words, param="model", code="model_not_found")
    if method != "POST":
        return
    if route is not None and route.family.is_administration:
        return
    if name in UNSEEN_MODELS:
        raise RouteNotAllowed(f"This key is limited to some models, and those of {name} cannot be seen in advance.")
    for model in named.main or (() if name in WITHOUT_MODEL else ("",)):
        check_model(caller, model or "")
    for model in named.others:
        check_model(caller, model or "")
