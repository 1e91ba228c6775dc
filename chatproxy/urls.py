"""The routes of Django's own handler: the admin and "My usage". All other routes are in `proxyapi.urls`.

The admin's modules are imported here, and not when Django is set up, so that commands start in half the time.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from chatproxy.sign_in import password_login
from usage.admin_pages import navigation

admin.autodiscover()

admin.site.login = password_login.login  # type: ignore[assignment]  # people who are no staff sign in there, too
admin.site.password_change = password_login.change_password  # type: ignore[assignment]  # it is in the audit log
admin.site.search = navigation.search  # type: ignore[attr-defined]  # the theme's, which keeps results and fails at page=a

urlpatterns = [
    # By its name: only with these settings, a library is imported behind it.
    *([path("admin/accounts/", include("chatproxy.sign_in.urls"))] if settings.USES_ALLAUTH else ()),
    path("admin/", include("usage.admin_pages.urls")),
    path("admin/", admin.site.urls),
    path("my-usage/", include("proxyapi.pages.my_usage")),
]
