"""The routes of Django's own handler: the admin and "My usage". All other routes are in `proxyapi.urls`."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", include("usage.pages.urls")),
    path("admin/", admin.site.urls),
    path("my-usage/", include("proxyapi.pages.my_usage")),
]
