"""Makes API tokens for tests: in this process's database, and in that of a running server."""

from __future__ import annotations

from django.contrib.auth.models import User

from proxyapi.models import ApiToken, ApiTokenScope
from tests.support.servers.gateway import Gateway

# What the admin's page does, for a superuser of its own.
MAKING = """
import sys
from django.contrib.auth.models import User
from proxyapi.models import ApiToken, ApiTokenScope
user, _ = User.objects.get_or_create(username="maker", defaults={"is_staff": True, "is_superuser": True})
token = ApiToken(name=sys.stdin.read(), user=user, scopes=ApiTokenScope.values)
text = token.renew()
token.save()
print(text)
"""


def make_token(user: User, *scopes: str, name: str = "a script", **columns: object) -> tuple[ApiToken, str]:
    """Creates an API token of a user, and returns it with its secret; by default, it has all scopes."""
    token = ApiToken(name=name, user=user, scopes=list(scopes or ApiTokenScope.values), **columns)
    text = token.renew()
    token.full_clean()
    token.save()
    return token, text


def make_token_at(gateway: Gateway, name: str) -> str:
    """Creates an API token with all scopes for a superuser of a running server, and returns the token's secret."""
    made = gateway.manage("shell", "--no-imports", "-c", MAKING, said=name)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()
