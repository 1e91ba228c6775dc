"""Checks that a key and its team may use the models named in a request. (`ownership_check` checks the objects.)

If a member is given several times, all of its values must be allowed, since upstream decides which one counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxyapi.bodies.model_places import UNSEEN_MODELS, WITHOUT_MODEL, NamedModels
from proxyapi.dispatch.permissions import check_model, may_use_model
from proxyapi.exceptions import NotFound, RouteNotAllowed
from proxyapi.keys.callers import Caller
from proxyapi.routes import Route


def check_models(route: Route | None, method: str, named: NamedModels, caller: Caller) -> None:
    """Checks that a request to upstream uses only models that the caller, who is limited to some models, may use.

    The model in the path is checked for every method. The models in the body and the query (`named`) are checked for a
    POST only, and not if the request administers the upstream account. Do not call this for a caller who may use all
    models: the request could be refused.

    Raises:
        ModelNotAllowed: one of the models is not allowed, or a POST that needs a model names none.
        RouteNotAllowed: a request to this route runs models without naming them.
        NotFound: the path names a model that is not allowed.
    """
    name = "" if route is None else route.name
    if route is not None and (asked_about := route.model_id) and not may_use_model(caller, asked_about):
        words = f"The model '{asked_about[:200]}' does not exist or this key may not use it."
        raise NotFound(words, param="model", code="model_not_found")
    if method != "POST":
        return
    if route is not None and route.family.is_administration:
        return
    if name in UNSEEN_MODELS:
        raise RouteNotAllowed(f"This key is limited to some models, and those of {name} cannot be seen in advance.")
    # A POST must name a model unless its route is known to run none. Otherwise upstream would choose: from a prompt
    # template, or as the default of a path that the gateway does not know.
    for model in named.main or (() if name in WITHOUT_MODEL else ("",)):
        check_model(caller, model or "")
    for model in named.others:
        check_model(caller, model or "")


def check_implied(method: str, models: Iterable[str], caller: Caller) -> None:
    """Checks that a caller who is limited to some models may use the `models` that upstream will run for a request.

    The request itself does not name these models; an empty name is one of upstream's choice. Only a POST is checked.

    Raises:
        ModelNotAllowed: one of the models is not allowed.
    """
    for model in models if method == "POST" else ():
        check_model(caller, model)
