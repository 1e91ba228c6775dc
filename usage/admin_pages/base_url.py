"""The gateway's own URL, as its pages show it in links, and in commands that people copy."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import get_script_prefix


def base_url(request: HttpRequest) -> str:
    """Returns the gateway's URL for links, and for commands that people copy, without a slash at its end.

    It is the setting PUBLIC_URL if that is set. Otherwise it is the URL that this client uses, such as `https://host`,
    or `https://host/ai` under a root path.
    """
    if settings.PUBLIC_URL:
        return str(settings.PUBLIC_URL)
    return request.build_absolute_uri(get_script_prefix()).rstrip("/")


def own_path(path: str) -> str:
    """Returns the path of one of the gateway's pages in URLs: `/docs` for `docs`, or `/ai/docs` under a root path."""
    return get_script_prefix() + path


# unfold calls the next two functions, which its settings SITE_URL and SITE_FAVICONS name.


def home(_request: HttpRequest) -> str:
    """Returns the path of the gateway's front page, for the link in the admin."""
    return own_path("")


def icon(_request: HttpRequest) -> str:
    """Returns the path of the icon that browsers show in the tab of the admin's pages."""
    return static("usage/icon.svg")
