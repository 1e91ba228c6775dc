"""The settings that calls read are gathered once, and anew when a test changes one."""

from __future__ import annotations

from django.conf import settings as django_settings
from pytest_django.fixtures import Settings

from proxyapi.cached_settings import CallSettings, call_settings


def test_they_have_the_values_of_djangos_settings() -> None:
    for name in vars(CallSettings)["__annotations__"]:
        assert getattr(call_settings(), name) == getattr(django_settings, name)


def test_they_are_gathered_once() -> None:
    assert call_settings() is call_settings()


def test_a_changed_setting_is_seen(settings: Settings) -> None:
    assert call_settings().LOG_BODIES != "errors"

    settings.LOG_BODIES = "errors"

    assert call_settings().LOG_BODIES == "errors"


def test_every_secret_is_one_of_the_secrets(settings: Settings) -> None:
    settings.SECURITY_KEY, settings.ACCESS_TOKEN, settings.OPENAI_API_KEY = "a", None, "c"

    assert call_settings().secrets == ("a", "c")
