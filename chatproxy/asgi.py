"""The ASGI application that gunicorn's workers load (`chatproxy.asgi:application`).

Sets Django up, and imports `chatproxy.entry` after that: the modules behind it import models.
"""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
django.setup(set_prefix=False)

from chatproxy.entry import application  # noqa: E402  (after Django is set up)

__all__ = ["application"]
