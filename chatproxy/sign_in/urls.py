"""The routes below `/admin/accounts/`, which exist only with `OIDC_ISSUER` or `SECOND_FACTOR`.

The routes of django-allauth to register, to change an e-mail address and to reset a password are left out. Each route
has the library's name, by which the library finds its pages.
"""

from __future__ import annotations

from allauth.account.views import reauthenticate
from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path, re_path

from chatproxy.sign_in import library_admin, views  # noqa: F401  (`library_admin` registers its tables with the admin)
from chatproxy.sign_in.provider import PROVIDER_ID

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.inactive, name="account_inactive"),
    path("password/", reauthenticate, name="account_reauthenticate"),
]
if settings.OIDC_ISSUER:
    urlpatterns += [
        path(f"{PROVIDER_ID}/login/", views.start, name="sso_login"),
        re_path(rf"^(?P<provider_id>{PROVIDER_ID})/callback/$", views.callback, name="openid_connect_callback"),
    ]
if settings.SECOND_FACTOR:
    from chatproxy.sign_in import factor_log  # noqa: F401  (connects itself to the library's signals)

    urlpatterns.append(path("second-factor/", include("allauth.mfa.urls")))
