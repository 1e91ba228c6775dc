"""The ASGI application that gunicorn's workers load (`chatproxy.asgi:application`).

It sets Django up before it imports `chatproxy.entry`, because that imports modules with models.
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings

# Django REST framework loads these packages if they are installed, as others need them, and uses them for pages and
# clients that this project does not have. Without them a worker starts a tenth of a second of CPU sooner.
UNUSED_PACKAGES = ("requests", "pygments", "yaml")

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
django.setup(set_prefix=False)

hidden = [name for name in UNUSED_PACKAGES if name not in sys.modules]
sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # the import of a module that is None fails
import rest_framework.compat  # noqa: E402, F401  (after Django is set up)

for name in hidden:
    del sys.modules[name]

from chatproxy import entry  # noqa: E402  (as above)
from chatproxy.http.access_log import AccessLog  # noqa: E402  (as above)

application = AccessLog(entry.application) if settings.ACCESS_LOG else entry.application
