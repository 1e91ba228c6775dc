"""The admin's modules are imported with the routes: Django's checks see what is registered there, and find no fault."""

from __future__ import annotations

import subprocess
import sys

from django.contrib import admin
from django.core.checks import Tags, run_checks

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from chatproxy.configuration import setting_reader


def test_the_admin_passes_djangos_checks() -> None:
    assert len(admin.site._registry) > 5
    assert run_checks(tags=[Tags.admin, Tags.urls, Tags.templates, Tags.models]) == []


def test_a_command_starts_without_the_admins_modules() -> None:
    """They are half of what a server's start would import."""
    code = "import sys, django; django.setup(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=setting_reader.BASE_DIR, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) & {"usage.models", "usage.admin", "proxyapi.admin", "chatproxy.urls"} == {
        "usage.models"
    }
