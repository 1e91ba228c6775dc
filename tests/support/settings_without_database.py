"""The settings for `make lint`, which checks models and settings without a database."""

from chatproxy.settings import *  # noqa: F403  (all but what follows)

DATABASES = {}  # makemigrations would connect, to compare with what is applied
