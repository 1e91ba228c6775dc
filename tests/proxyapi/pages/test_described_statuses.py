"""`/openapi.json` lists every status that an operation answers with: every error of ours has its operations here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import resolve

from proxyapi import exceptions
from proxyapi.dispatch.authentication import ApiTokenAuthentication, BearerAuthentication
from proxyapi.dispatch.base_view import BodyUse, ProxyView
from proxyapi.dispatch.call_view import CallView
from proxyapi.exceptions import ProxyError
from proxyapi.management.api_views import KeysView, ManagementView, TeamsView
from proxyapi.pages.api_description import describe_api
from proxyapi.v1 import openapi
from proxyapi.v1.views import PassThroughView

View = type[ProxyView]


def any_view(view: View) -> bool:
    return True


def takes_key(view: View) -> bool:
    return bool(view.authentication_classes)


def takes_bearer(view: View) -> bool:
    return not {BearerAuthentication, ApiTokenAuthentication}.isdisjoint(view.authentication_classes)


def takes_other_key(view: View) -> bool:
    return takes_key(view) and not takes_bearer(view)


def takes_body(view: View) -> bool:
    return view.body_use is not BodyUse.NONE or issubclass(view, PassThroughView)


def calls_upstream(view: View) -> bool:
    return issubclass(view, CallView)


def manages(view: View) -> bool:
    return issubclass(view, ManagementView)


def manages_one(view: View) -> bool:
    return manages(view) and not makes_one(view)


def makes_one(view: View) -> bool:
    return view in (KeysView, TeamsView)


def passes_through(view: View) -> bool:
    return issubclass(view, PassThroughView)


# Which operations can answer with an error, by what their view does.
ANSWERED_BY = {
    "ProxyError": any_view,
    "InternalError": any_view,
    "BadRequest": any_view,  # a head that is no HTTP
    "BadJSON": takes_body,
    "BadForm": takes_body,
    "InvalidKey": takes_other_key,
    "InvalidBearer": takes_bearer,
    "TeamArchived": calls_upstream,
    "RouteNotAllowed": calls_upstream,
    "ModelNotAllowed": calls_upstream,
    "ModelNotPriced": calls_upstream,
    "OutputLimitExceeded": calls_upstream,
    "NotPermitted": manages,
    "NotFound": lambda view: calls_upstream(view) or manages_one(view),
    "WebSocketRefused": passes_through,
    "RequestTimeout": takes_body,
    "AlreadyExists": makes_one,
    "BodyTooLarge": takes_body,
    "UnsupportedMediaType": takes_body,
    "RateLimited": takes_key,
    "TooManyInvalidKeys": takes_key,
    "BudgetExceeded": calls_upstream,
    "Unavailable": any_view,
    "Overloaded": any_view,
    "TooManyConnections": any_view,
    "TooManyStrangers": takes_body,
    "OutOfFiles": calls_upstream,
    "ShuttingDown": takes_body,
    "UpstreamKeyMissing": calls_upstream,
    "StorageFull": calls_upstream,
    "DatabaseUnavailable": takes_key,
    "BudgetUnavailable": calls_upstream,
    "LoopDetected": calls_upstream,
    "UpstreamFailure": calls_upstream,
    "UnreadableList": passes_through,
    "UpstreamUnreachable": calls_upstream,
    "UpstreamAnswerTooLarge": calls_upstream,
    "UpstreamTruncated": calls_upstream,
    "UpstreamTimeout": calls_upstream,
    "CallerTimeout": calls_upstream,
}
# They are no answers of a described operation.
ELSEWHERE = {
    "MethodNotAllowed": "of a method that is not described",
    "TooManyPages": "of the admin",
}
BODY_STATUSES = {408, 409, 413, 415}
UPSTREAMS = {401}  # on the simple API, where ours is 403: upstream does not take the key that it gets


def all_errors(error: type[ProxyError] = ProxyError) -> list[type[ProxyError]]:
    return [error, *(found for inner in error.__subclasses__() for found in all_errors(inner))]


def operations() -> list[tuple[str, str, View, set[int]]]:
    """Path, method, view and described statuses."""
    found = []
    for path, methods in json.loads(describe_api())["paths"].items():
        match: Any = resolve(path.replace("{response_id}", "resp_1"), "proxyapi.urls")
        for method, described in methods.items():
            statuses = {int(status) for status in described["responses"]}
            found.append((path, method, match.func.view_class, statuses))
    return found


def test_every_error_of_ours_is_in_the_table() -> None:
    names = {error.__name__ for error in all_errors() if error.__module__ == exceptions.__name__}

    assert names == ANSWERED_BY.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("path", "method", "view", "statuses"), operations(), ids=[f"{one[1]} {one[0]}" for one in operations()]
)
def test_every_status_that_is_answered_is_described(path: str, method: str, view: View, statuses: set[int]) -> None:
    expected = {
        error.status_code
        for error in all_errors()
        if error.__name__ in ANSWERED_BY and ANSWERED_BY[error.__name__](view)
    }
    if manages(view) and method == "get":
        expected -= BODY_STATUSES  # it reads no body, and makes nothing

    assert statuses - {200} - (UPSTREAMS if calls_upstream(view) and not takes_bearer(view) else set()) == expected


def test_the_operations_are_all_looked_at() -> None:
    paths = {path for path, *_ in operations()}

    assert {"/openai2/{response_id}", "/metrics", "/v1/responses/{id}"} <= paths
    assert len(paths) > 40
    assert {f"/v1{operation.path}" for operation in openapi.OPERATIONS} <= paths
