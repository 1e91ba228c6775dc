"""The upstream account of a call."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    """An account at upstream: its API key, and the project and the organization that pay for requests."""

    api_key: str = field(repr=False)
    project: str | None = None
    organization: str | None = None
