"""The upstream account that pays for a call: the caller's own, or the gateway's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from proxyapi.cached_settings import call_settings
from proxyapi.exceptions import UpstreamKeyMissing
from proxyapi.keys.callers import Caller


@dataclass(frozen=True)
class Credentials:
    """An account at upstream: its API key, and the project and the organization that pay for requests."""

    api_key: str = field(repr=False)
    project: str | None = None
    organization: str | None = None


def caller_credentials(caller: Caller) -> Credentials:
    """Returns the upstream account that pays for a caller's calls: the caller's own, or else the gateway's.

    Raises:
        UpstreamKeyMissing: neither the caller nor the settings have an upstream key.
    """
    return Credentials(caller.upstream_key) if caller.upstream_key else configured_credentials()


def configured_credentials() -> Credentials:
    """Returns the gateway's own upstream account: key, project and organization from the settings.

    Raises:
        UpstreamKeyMissing: no upstream key is configured.
    """
    given = call_settings()
    if not given.OPENAI_API_KEY:
        raise UpstreamKeyMissing
    return _one_account(given.OPENAI_API_KEY, given.OPENAI_PROJECT_KEY, given.OPENAI_ORGANIZATION)


@lru_cache(maxsize=1)
def _one_account(api_key: str, project: str | None, organization: str | None) -> Credentials:
    """Returns the upstream account with the given fields; equal fields always give the same object."""
    # A cache by account then finds it by its identity, without comparing the fields.
    return Credentials(api_key, project, organization)
