"""Restricts Django's debug pages: who gets them, and which values they show.

Django has them only with `DEBUG`, which `make dev` sets (`serve` refuses it on an address that others can reach). Even
then only a client on this machine gets them, and only if the Host names this machine: a page of another site can make
the developer's browser request one, and a proxy can pass on somebody else's request.

Invariant: a page shows only values on the lists below. A list of values to hide would not be enough: each version of
Django may add settings, headers or variables with secrets.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView
from http import HTTPStatus
from types import FrameType

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from chatproxy.logs import ELIDED, exception_words, redacted_path, without_secrets
from usage.ip_addresses import is_loopback

SHOWN_SETTINGS = frozenset(
    {
        "ALLOWED_HOSTS", "APPEND_SLASH", "ASGI_APPLICATION", "AUTH_USER_MODEL", "DEBUG", "DEFAULT_AUTO_FIELD", "HOST",
        "INSTALLED_APPS", "LANGUAGE_CODE", "MIDDLEWARE", "PORT", "ROOT_URLCONF", "SILENCED_SYSTEM_CHECKS", "STATIC_URL",
        "TIME_ZONE", "USE_I18N", "USE_TZ", "VERSION", "WEB_CONCURRENCY",
    }
)  # fmt: skip
SHOWN_META = frozenset(
    {
        "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_ACCEPT", "HTTP_HOST", "HTTP_USER_AGENT", "REMOTE_ADDR", "REMOTE_PORT",
        "REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT",
    }
)  # fmt: skip
SHOWN_TYPES = (bool, int, float, type(None))
OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDED = (
    "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_REAL_IP",
)  # fmt: skip
DEBUG_STATUSES = frozenset({400, 404, 500})


class LocalDebugPages:
    """Middleware that removes secrets from Django's debug pages, and shows them only to clients on this machine.

    Other clients get the name of the status as plain text. Without the setting DEBUG there are no debug pages, and the
    middleware changes nothing.
    """

    # It stands in front of all other middleware that may fail: the debug pages of their errors pass through it.
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if not settings.DEBUG or response.status_code not in DEBUG_STATUSES:
            return response
        if not is_local(request) or not isinstance(response, HttpResponse):
            name = HTTPStatus(response.status_code).phrase
            return HttpResponse(name, status=response.status_code, content_type="text/plain; charset=utf-8")
        response.content = without_secrets(response.content.decode(errors="replace")).encode()
        response.headers["Content-Length"] = str(len(response.content))
        return response


def is_local(request: HttpRequest) -> bool:
    """Returns whether a request comes from this machine: from a loopback address, with a Host such as `localhost`.

    A request that was passed on by a proxy is not local.
    """
    if any(name in request.META for name in FORWARDED):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR", "")) and host_name(request) in OWN_NAMES


def host_name(request: HttpRequest) -> str:
    """Returns the host in a request's `Host` header, in lower case, without the port and the brackets of IPv6."""
    # Django's `get_host` would raise an error for a name that is not in ALLOWED_HOSTS.
    host: str = request.META.get("HTTP_HOST", "").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


class AllowListFilter(SafeExceptionReporterFilter):
    """Filter of Django's debug pages that shows only values known to be harmless.

    Other settings, headers, cookies and form fields are shown by name only, other variables by type only.
    """

    def get_safe_settings(self) -> dict[str, object]:
        names = [name for name in dir(settings) if name.isupper()]
        return {name: getattr(settings, name) if name in SHOWN_SETTINGS else ELIDED for name in names}

    def get_safe_request_meta(self, request: HttpRequest | None) -> dict[str, object]:
        meta = request.META if request is not None else {}
        return {name: value if name in SHOWN_META else ELIDED for name, value in meta.items()}

    def get_safe_cookies(self, request: HttpRequest | None) -> dict[str, object]:
        return dict.fromkeys(request.COOKIES, ELIDED) if request is not None else {}

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, object]:
        return dict.fromkeys(request.POST, ELIDED) if request is not None else {}

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, object]:
        return {name: shown_variable(value) for name, value in tb_frame.f_locals.items()}.items()


class Reporter(ExceptionReporter):
    """Writer of Django's debug page that leaves out the values of the query string, the form and the cookies.

    Texts in quotes in the exception's message are left out, too.
    """

    def get_traceback_data(self) -> dict[str, object]:
        data = super().get_traceback_data()
        data["unicode_hint"] = ""
        if self.exc_value is not None:
            data["exception_value"] = exception_words(self.exc_value)
        data.pop("exception_notes", None)
        for frame in data["frames"]:
            frame["exc_cause"] = exception_words(frame["exc_cause"]) if frame.get("exc_cause") else None
        if self.request is not None:
            data["request_insecure_uri"] = redacted_path(self.request.path)
            data["request_GET_items"] = [(name, ELIDED) for name in self.request.GET]
            data["request_FILES_items"] = []
        return data


def shown_variable(value: object) -> object:
    """Returns what a debug page shows for a variable: a harmless value such as a number, or else the value's type."""
    # a number cannot hold a secret
    return value if isinstance(value, SHOWN_TYPES) else _Elided(type(value).__name__)


class _Elided:
    """Placeholder on a debug page for a hidden value; its `repr` is the name of the value's type."""

    def __init__(self, type_name: str) -> None:
        self._type_name = type_name

    def __repr__(self) -> str:
        return f"<{self._type_name}>"
