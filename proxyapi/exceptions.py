"""Every error of the gateway: its status, its message in OpenAI's shape, and its rendering.

    ProxyError
    ├── BadRequest            400  bad_request, and the codes given
    │   ├── BadJSON           400  bad_json
    │   └── BadForm           400  bad_request, and the codes given
    ├── InvalidKey            403  invalid_key (the same for missing, unknown, expired and revoked)
    │   └── InvalidBearer     401  the same on /v1, as OpenAI has it
    ├── TeamArchived          403  team_archived
    ├── RouteNotAllowed       403  route_not_allowed
    ├── ModelNotAllowed       403  model_not_allowed
    ├── ModelNotPriced        403  model_not_priced
    ├── NotPermitted          403  permission_denied, missing_scope (of an API token)
    ├── NotFound              404  not_found
    ├── MethodNotAllowed      405  method_not_allowed
    ├── WebSocketRefused      426  websocket_not_supported
    ├── RequestTimeout        408  request_timeout
    ├── AlreadyExists         409  already_exists
    ├── BodyTooLarge          413  body_too_large
    ├── UnsupportedMediaType  415  unsupported_media_type
    ├── RateLimited           429  rate_limited
    │   ├── TooManyInvalidKeys     too_many_invalid_keys, instead of InvalidKey (unauthenticated.wrong_key_pace)
    │   └── TooManyPages           too_many_pages, for pages without a login (chatproxy.page_protection.page_pace)
    ├── BudgetExceeded        429  budget_exceeded
    ├── InternalError         500  internal_error
    ├── Unavailable           503  with Retry-After
    │   ├── Overloaded             overloaded
    │   ├── TooManyConnections     overloaded, before a head is read (chatproxy.http.protocol)
    │   ├── TooManyStrangers       overloaded, for callers that have shown no key
    │   ├── OutOfFiles             overloaded, when the system allows no further connection to upstream
    │   ├── ShuttingDown           shutting_down
    │   ├── UpstreamKeyMissing     upstream_key_missing
    │   ├── StorageFull            storage_full
    │   ├── DatabaseUnavailable    database_unavailable
    │   └── BudgetUnavailable      budget_unavailable
    ├── LoopDetected          508  loop_detected (proxyapi.upstream.self_calls)
    └── UpstreamFailure
        ├── UnreadableList         502  unreadable_list
        ├── UpstreamUnreachable    502  upstream_unreachable
        ├── UpstreamAnswerTooLarge 502  upstream_answer_too_large
        ├── UpstreamTruncated      502  truncated
        └── UpstreamTimeout        504  upstream_timeout
            └── CallerTimeout          504  upstream_timeout

Upstream's own errors are not here, since they pass unchanged. `CallerGone` is no `ProxyError`, because no caller is
left to answer.

Over 300 lines, since it is a list of short classes, which is read as a whole.
"""

from __future__ import annotations

import json
import logging
from typing import ClassVar

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from rest_framework import exceptions

from usage.answers.errors import ErrorFacts
from usage.models import Outcome

logger = logging.getLogger(__name__)


class ProxyError(exceptions.APIException):
    """Base class of the errors that the gateway itself answers with; the answers look like OpenAI's error objects.

    * `headers`: headers to add to the answer.
    * `outcome`: the call's outcome in the ledger.
    * `is_unbilled`: true if upstream has received nothing of the call, so that the call costs nothing.
    * `is_of_caller`: true if a time limit that the caller has set has ended the call.
    """

    status_code = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    message: ClassVar[str] = "The gateway failed on this request."
    outcome: ClassVar[Outcome] = Outcome.REJECTED
    is_of_caller: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        code: str = "",
        retry_after: int = 0,
        is_unbilled: bool = False,
    ) -> None:
        super().__init__(message or self.message)
        self.is_unbilled = is_unbilled
        self.words = message or self.message
        self.param = param
        self.code = code or type(self).code
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}

    @property
    def facts(self) -> ErrorFacts:
        """The error as the call's ledger row has it: its type, code, message and parameter."""
        return {"type": self.type, "code": self.code, "message": self.words, "param": self.param or ""}

    def body(self, request_id: str | None) -> dict[str, object]:
        """Returns the body of an answer with this error: a JSON object like OpenAI's, with the `request_id`."""
        error = {"message": self.words, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**error, "request_id": request_id}}


class InternalError(ProxyError):
    outcome = Outcome.INTERRUPTED


class BadRequest(ProxyError):
    status_code = 400
    type = "invalid_request_error"
    code = "bad_request"
    message = "The request is not valid."


class BadJSON(BadRequest):
    code = "bad_json"
    message = "The request body is not valid JSON."


class BadForm(BadRequest):
    """Error 400: the request's form is malformed, or two programs could read it differently.

    The message never quotes a value of the form.
    """

    def __init__(self, words: str, *, param: str | None = None, code: str = "") -> None:
        super().__init__(f"The form is not valid: {words}.", param=param, code=code)


class InvalidKey(ProxyError):
    status_code = 403
    type = "authentication_error"
    code = "invalid_key"
    message = "Missing or invalid key."


class OutputLimitExceeded(BadRequest):
    """Error 400: a call asks for more output tokens than its key may have per call.

    OpenAI uses the same status and error type for a call that asks for more output tokens than the model can give.
    """

    code = "output_limit_exceeded"
    message = "This call asks for more output tokens than this key may have."


class TeamArchived(ProxyError):
    status_code = 403
    type = "permission_error"
    code = "team_archived"
    message = "The team of this key is archived, so its keys are refused until an administrator makes it active again."


class RouteNotAllowed(ProxyError):
    status_code = 403
    type = "permission_error"
    code = "route_not_allowed"
    message = "This key may not use this endpoint."


class ModelNotAllowed(ProxyError):
    status_code = 403
    type = "permission_error"
    code = "model_not_allowed"
    message = "This key may not use this model."


class ModelNotPriced(ProxyError):
    """Error 403: a call of a key with a budget names a model without a price, so its cost would be unknown."""

    status_code = 403
    type = "permission_error"
    code = "model_not_priced"
    message = "This key has a budget, and this model has no price."


class NotPermitted(ProxyError):
    """Error 403: an API token, or the user it belongs to, may not do what the request asks for."""

    status_code = 403
    type = "permission_error"
    code = "permission_denied"
    message = "This API token may not do this."


class InvalidBearer(InvalidKey):
    status_code = 401

    def __init__(self) -> None:
        super().__init__()
        self.headers = {"WWW-Authenticate": "Bearer"}


class NotFound(ProxyError):
    status_code = 404
    type = "invalid_request_error"
    code = "not_found"
    message = "There is nothing here."


class MethodNotAllowed(ProxyError):
    status_code = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    message = "This method is not allowed here."

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(f"This method is not allowed here; allowed: {', '.join(allowed)}.")
        self.headers = {"Allow": ", ".join(allowed)}


class WebSocketRefused(ProxyError):
    """Error 426: the request asks for a WebSocket, which the gateway does not relay.

    Codex, a client of OpenAI's, then goes on over HTTP (see `responses_websocket` in its source).
    """

    status_code = 426
    type = "invalid_request_error"
    code = "websocket_not_supported"
    message = "This gateway relays no WebSockets; use the same endpoint over HTTP, with stream set to true."


class RequestTimeout(ProxyError):
    status_code = 408
    type = "invalid_request_error"
    code = "request_timeout"
    message = "The request body did not arrive in time."


class AlreadyExists(ProxyError):
    """Error 409: the name for a new key or team is taken by another one."""

    status_code = 409
    type = "invalid_request_error"
    code = "already_exists"
    message = "This exists already."


class BodyTooLarge(ProxyError):
    status_code = 413
    type = "invalid_request_error"
    code = "body_too_large"
    message = "The request body is too large."


class UnsupportedMediaType(ProxyError):
    status_code = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    message = "This content type is not supported here."


class LoopDetected(ProxyError):
    """Error 508: the call would go round for ever, because upstream is this gateway itself or sends calls back to it.

    The header `X-Should-Retry: false` keeps OpenAI's SDKs from sending the call again, as they do after a 5xx status.
    """

    status_code = 508
    code = "loop_detected"
    message = (
        "The upstream key is a key of this gateway, so upstream would be the gateway itself. OPENAI_BASE_URL and"
        " OPENAI_API_KEY are the provider's; those of clients are not for the gateway's own environment."
    )

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.headers["X-Should-Retry"] = "false"


class RateLimited(ProxyError):
    status_code = 429
    type = "rate_limit_error"
    code = "rate_limited"
    message = "Too many requests."


class TooManyInvalidKeys(RateLimited):
    code = "too_many_invalid_keys"
    message = "Too many requests with a missing or invalid key came from this address. A valid key is let in at once."


class TooManyPages(RateLimited):
    code = "too_many_pages"
    message = "Too many requests by people who have not signed in. Try again in a moment."


class BudgetExceeded(ProxyError):
    """Error 429: a call may cost more than is left of a budget of its key or of the key's team.

    If `is_final` is true, a retry would fail, too. The header `X-Should-Retry: false` then keeps OpenAI's SDKs from the
    retry that usually follows a status 429.
    """

    status_code = 429
    type = "insufficient_quota"
    code = "budget_exceeded"
    message = "The budget of this key is used up."

    def __init__(self, message: str, *, retry_after: int, is_final: bool, param: str | None = None) -> None:
        super().__init__(message, retry_after=retry_after, param=param)
        if is_final:
            self.headers["X-Should-Retry"] = "false"


class Unavailable(ProxyError):
    status_code = 503

    def __init__(self) -> None:
        super().__init__(retry_after=1)


class Overloaded(Unavailable):
    code = "overloaded"
    message = "The gateway has as many calls in flight as it may have."


class TooManyConnections(Unavailable):
    code = "overloaded"
    message = "The gateway has as many connections as it may have."


class TooManyStrangers(Unavailable):
    code = "overloaded"
    message = (
        "The gateway holds as many unfinished bodies of callers without a key as it may hold. Send the key in a header"
        " (Authorization: Bearer ... or X-Security-Key), or in the first 64 KiB of the body: then it takes the call."
    )


class OutOfFiles(Unavailable):
    code = "overloaded"
    message = (
        "The gateway has as many open files as the system allows it (`ulimit -n`). Upstream was not reached, so the"
        " call was not billed."
    )


class ShuttingDown(Unavailable):
    code = "shutting_down"
    message = "The gateway is shutting down."


class UpstreamKeyMissing(Unavailable):
    code = "upstream_key_missing"
    message = (
        "No upstream key: the gateway has no OPENAI_API_KEY, and the caller's key has no upstream key of its own. A"
        " call outside /v1 may bring one as openai_api_key."
    )


class StorageFull(Unavailable):
    code = "storage_full"
    message = "The disk of the ledger is full, so no new call is let in."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    message = "The database is away. Calls go on; this page needs it."


class BudgetUnavailable(Unavailable):
    code = "budget_unavailable"
    message = (
        "This key has a budget, the database that keeps it is away, and what may go on meanwhile is used up."
        " Calls go on when it is back."
    )


class UpstreamFailure(ProxyError):
    type = "upstream_error"


class UpstreamUnreachable(UpstreamFailure):
    status_code = 502
    code = "upstream_unreachable"
    outcome = Outcome.UNREACHABLE


class UpstreamAnswerTooLarge(UpstreamFailure):
    status_code = 502
    code = "upstream_answer_too_large"
    outcome = Outcome.UPSTREAM_ERROR


class UnreadableList(UpstreamFailure):
    """Error 502: a list from upstream could not be read, so the objects of other keys could not be removed from it.

    The caller gets no part of the list.
    """

    status_code = 502
    code = "unreadable_list"
    outcome = Outcome.UPSTREAM_ERROR
    message = "Upstream's list could not be read, so it cannot be shown: a key sees its own objects only."


class UpstreamTruncated(UpstreamFailure):
    """Error 502: upstream ended a stream before the last event, although the HTTP message was complete."""

    status_code = 502
    code = "truncated"
    message = "Upstream's answer ended before its end: what has come is a part of it."
    outcome = Outcome.UPSTREAM_ERROR


class UpstreamTimeout(UpstreamFailure):
    status_code = 504
    code = "upstream_timeout"
    outcome = Outcome.TIMEOUT


class CallerTimeout(UpstreamTimeout):
    """Error 504: the time that the caller had given the call was over. It tells nothing about upstream's state."""

    is_of_caller = True


class CallerGone(Exception):
    """Exception: the caller closed the connection before the request was complete, so nobody waits for an answer."""


def from_framework(error: Exception) -> ProxyError:
    """Converts any exception to an error of the gateway; returns a `ProxyError` unchanged.

    Errors of Django and of Django REST framework for a bad request get status 400 or 415; all others become an
    `InternalError`.
    """
    if isinstance(error, ProxyError):
        return error
    if isinstance(error, exceptions.UnsupportedMediaType):
        return UnsupportedMediaType(str(error.detail))
    if isinstance(error, exceptions.ParseError):
        return BadRequest(str(error.detail))
    if isinstance(error, SuspiciousOperation):  # for example a query with more fields than Django accepts
        return BadRequest(str(error))
    return InternalError()


def render(error: ProxyError, request: HttpRequest) -> HttpResponse:
    """Builds the JSON answer for an error of the gateway, with status and headers."""
    request_id = str(getattr(request, "request_id", ""))
    body = json.dumps(error.body(request_id))
    # OpenAI's SDKs read the id of a failed request from this header.
    headers = {"x-request-id": request_id, **error.headers}
    return HttpResponse(body, status=error.status_code, content_type="application/json", headers=headers)
