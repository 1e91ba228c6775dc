"""Owns the settings of `make lint`, which looks at models and settings but has no server to ask."""

from chatproxy.settings import *  # noqa: F403  (all but what follows)

DATABASES = {}  # makemigrations would connect, to compare with what is applied
