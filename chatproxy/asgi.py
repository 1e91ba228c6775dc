"""The ASGI application that gunicorn's workers load (`chatproxy.asgi:application`).

Sets Django up, and imports `chatproxy.entry` after that: the modules behind it import models.
"""

from __future__ import annotations

import os

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
django.setup(set_prefix=False)

from chatproxy import entry  # noqa: E402  (after Django is set up)
from chatproxy.http.access_log import AccessLog  # noqa: E402  (as above)

application = AccessLog(entry.application) if settings.ACCESS_LOG else entry.application
