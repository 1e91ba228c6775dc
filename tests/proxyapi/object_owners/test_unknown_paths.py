"""Paths that OpenAI's reference does not have: no id in them, wherever it stands, reaches another key's object."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from pytest_django.fixtures import Settings

from proxyapi.exceptions import NotFound, RouteNotAllowed
from proxyapi.keys.callers import Caller
from proxyapi.keys.credentials import Credentials
from proxyapi.object_owners import ownership_check
from proxyapi.object_owners.ownership_check import check
from proxyapi.routes import find_route
from proxyapi.upstream.request import UpstreamRequest

OWNERS = {"file-mine": "ann", "file-mine2": "ann", "file-bob": "bob", "file-shared": "bob"}
ANN = Caller("ann", shared_objects=("file-shared",))

ALLOWED = [
    ("GET", "/embeddings/file-mine"),
    ("GET", "/embeddings/new/file-mine"),
    ("GET", "/embeddings/file-mine/new"),
    ("GET", "/embeddings/file-mine/file-mine2/new"),
    ("GET", "/embeddings/new/file-mine/unheard/of"),
    ("GET", "/embeddings/file-shared"),
    ("GET", "/embeddings/new/file-shared"),
    ("GET", "/embeddings/file-mine/file-shared"),
    ("POST", "/embeddings/new"),
    ("POST", "/embeddings/file-mine/new"),
    ("DELETE", "/embeddings/file-mine"),
    ("GET", "/files/file-mine/new"),
    ("GET", "/files/file-mine/new/file-mine2"),
    ("GET", "/files/file-shared/new"),
    ("POST", "/files/file-mine/new/and/another"),
]
REFUSED = [
    # Nothing in it is known: it may be an id whose owner nobody remembers.
    ("GET", "/embeddings/new"),
    ("GET", "/embeddings/new/another"),
    ("GET", "/embeddings/new/another/third"),
    ("POST", "/embeddings/new/another"),
    ("DELETE", "/embeddings/new"),
    # Behind two segments the key's own object is too far away to say whose the first ones are.
    ("GET", "/embeddings/new/another/file-mine"),
    # Another key's object, wherever it stands.
    ("GET", "/embeddings/file-bob"),
    ("POST", "/embeddings/file-bob"),
    ("GET", "/embeddings/file-mine/file-bob"),
    ("GET", "/embeddings/file-bob/file-mine"),
    ("GET", "/embeddings/file-mine/new/file-bob"),
    ("GET", "/embeddings/file-mine/file-mine2/a/b/c/file-bob/d"),
    ("GET", "/embeddings/file-shared/file-bob"),
    ("GET", "/embeddings/file-bob/file-shared"),
    ("GET", "/embeddings/file-shared/new/file-bob"),
    ("GET", "/files/file-mine/new/file-bob"),
    ("GET", "/files/file-mine/file-bob"),
    ("DELETE", "/files/file-mine/new/file-bob"),
    ("POST", "/files/file-mine/new/file-bob"),
    ("GET", "/files/file-shared/new/file-bob"),
    ("GET", "/files/file-mine/new/file%2Dbob"),
    # What is shared may be read, and not changed.
    ("POST", "/embeddings/file-shared"),
    ("DELETE", "/embeddings/file-shared"),
    ("POST", "/embeddings/file-mine/file-shared"),
    ("DELETE", "/files/file-mine/new/file-shared"),
]


@pytest.fixture(autouse=True)
def _owners(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.OPENAI_API_KEY = "sk-team"

    async def owners_of(needed: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
        return {one: OWNERS[one] for one in {*needed, *others} if one in OWNERS}

    monkeypatch.setattr(ownership_check, "owners_of", owners_of)


def request(method: str, path: str) -> UpstreamRequest:
    found = find_route(path)
    assert found is not None
    assert not found.is_known
    return UpstreamRequest(method, path, Credentials("sk-team"), deadline=0.0)


@pytest.mark.parametrize(("method", "path"), ALLOWED)
async def test_a_keys_own_objects_are_followed(method: str, path: str) -> None:
    await check(request(method, path), ANN)


@pytest.mark.parametrize(("method", "path"), REFUSED)
async def test_what_may_be_anothers_is_not_there(method: str, path: str) -> None:
    with pytest.raises((NotFound, RouteNotAllowed)):
        await check(request(method, path), ANN)
