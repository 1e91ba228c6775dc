"""The routes of the gateway's own pages in the admin, which take precedence over Django's.

`usage.admin.RequestAdmin` serves the pages of requests.

At `r/`, Django's admin redirects to an object's page on the public site. No object here has such a page, and Django's
view fails for an invalid id, so `r/` is answered with 404.
"""

from __future__ import annotations

from typing import NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest
from django.urls import path

from usage.admin_pages import dashboard, errors, export, needed_prices, requests
from usage.admin_pages.saved_views import views
from usage.admin_pages.spending import usage_page


def no_page(_request: HttpRequest, _rest: str) -> NoReturn:
    raise Http404("Nothing here has a page on a site.")


app_name = "pages"
urlpatterns = [
    path("r/<path:_rest>", admin.site.admin_view(no_page), name="no_page_on_a_site"),
    path("usage/dashboard.json", dashboard.data, name="dashboard_data"),
    path("usage/needed-prices/", needed_prices.show, name="needed_prices"),
    path("usage/report/", usage_page.show, name="usage_report"),
    path("usage/report/export.csv", usage_page.export, name="export_usage"),
    path("usage/views/save/", views.save, name="save_view"),
    path("usage/views/delete/", views.delete, name="delete_view"),
    path("usage/errors/", errors.show, name="errors"),
    path("usage/errors/mark/", errors.mark, name="mark_error"),
    path("usage/request/names.json", requests.suggest_names, name="names"),
    path("usage/request/<uuid:request_id>/<str:part>.txt", requests.download_body, name="download_body"),
    path("usage/request/in-order/", requests.show_in_order, name="in_order"),
    path("usage/request/export.<str:kind>", export.requests, name="export_requests"),
    path("usage/errors/export.<str:kind>", export.errors, name="export_errors"),
]
