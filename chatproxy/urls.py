"""The routes of Django's own handler: the admin and "My usage". All other routes are in `proxyapi.urls`.

The admin's modules are imported here, and not when Django is set up: commands start in half the time without them.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()

urlpatterns = [
    path("admin/", include("usage.admin_pages.urls")),
    path("admin/", admin.site.urls),
    path("my-usage/", include("proxyapi.pages.my_usage")),
]
