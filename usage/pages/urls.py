"""The routes of the admin's own pages, before the admin's. The requests' pages are `usage.admin.RequestAdmin`'s."""

from __future__ import annotations

from django.urls import path

from usage.pages import dashboard, errors, export

app_name = "pages"
urlpatterns = [
    path("usage/dashboard.json", dashboard.data, name="dashboard_data"),
    path("usage/errors/", errors.show, name="errors"),
    path("usage/errors/mark/", errors.mark, name="mark_error"),
    path("usage/request/export.<str:kind>", export.requests, name="export_requests"),
    path("usage/errors/export.<str:kind>", export.errors, name="export_errors"),
]
