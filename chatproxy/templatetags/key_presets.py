"""A template tag for pages that lead to the form of a new key, filled in for a usual kind of key."""

from __future__ import annotations

from django import template
from django.urls import reverse

from proxyapi.pages.handover.presets import PARAMETER, PRESETS

register = template.Library()


@register.simple_tag
def key_presets() -> list[tuple[str, str]]:
    """Returns a label and a URL for each usual kind of key (`PRESETS`); the URL opens the filled-in form of a key."""
    form = "admin:proxyapi_accesskey_add"
    return [(preset.label, reverse(form, query={PARAMETER: preset.name})) for preset in PRESETS]
