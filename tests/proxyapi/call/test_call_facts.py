"""What a call keeps of itself once its key is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from proxyapi.call.call_facts import CallFacts
from proxyapi.keys.callers import Caller


@pytest.mark.parametrize(
    ("route", "kept"),
    [
        ("/v1/vaults", "none"),
        ("/v1/vaults/{id}/credentials/{id}", "none"),
        ("/v1/vaults/*", "none"),
        ("/v1/responses", "all"),
        ("/openai", "all"),
    ],
)
def test_the_bodies_of_routes_to_which_passwords_go_are_never_kept(route: str, kept: str) -> None:
    request = SimpleNamespace(route=route, META={})
    facts = CallFacts(request, "all", ())  # type: ignore[arg-type]  # as much of one as is used
    facts.identify(Caller("ann", log_bodies="all"))

    assert facts.log_bodies == kept
