"""The yardstick B: an empty view on Django's own ASGI handler, with two middlewares.

It runs in the kind of uvicorn worker that the gateway uses. Costs are given as multiples of B, so that figures from
different machines can be compared.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="bench",
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
)

from django.core.asgi import get_asgi_application  # noqa: E402  (after the settings)


async def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"{}", content_type="application/json")


urlpatterns = [path("v1/chat/completions", empty)]
application = get_asgi_application()
