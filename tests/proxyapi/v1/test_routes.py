"""Which paths of `/v1` have a route, what it is called, and that no path has two meanings."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies.model_places import UNSEEN_MODELS, WITHOUT_MODEL
from proxyapi.routes import DEFAULT, FAMILIES, find_route

PATHS = [(family, path) for family in FAMILIES for path in family.paths]
ids = st.sampled_from(["resp_1", "ft:gpt-4o:org::x", "org%2Fmodel", "a%20b", "...", "a..b", "~", "%25", "%C3%BC", "@x"])
pieces = st.sampled_from(
    ["models", "responses", "chat", "completions", "chat/completions", "x", "..", ".", "", "/", "%2e", "%2E%2e", "%2F",
     "%5c", "\\", "%00", "\x01", "\x7f", "%7f", "ü", "?", "#", " ", "%", "%zz", ";", "id"]
)  # fmt: skip


@given(st.sampled_from(PATHS), st.lists(ids, min_size=3, max_size=3), st.sampled_from(["", "/"]))
def test_every_path_has_its_name(known: tuple[object, str], given_ids: list[str], end: str) -> None:
    family, path = known
    written = path
    for one in given_ids:
        written = written.replace("{id}", one, 1)
    route = find_route(written + end)

    assert route is not None
    assert (route.family, route.name, route.path) == (family, f"/v1{path}", written + end)


@given(st.lists(pieces, max_size=6), st.sampled_from(["", "/"]))
def test_a_path_has_one_meaning_or_no_route(parts: list[str], joint: str) -> None:
    path = "/" + joint.join(parts)
    route = find_route(path)
    if route is None:
        return

    assert route.path == path
    assert route.path.isascii()
    assert route.path.isprintable()
    segments = unquote(path).removeprefix("/").removesuffix("/").split("/")
    assert not {"", ".", ".."} & set(segments)
    assert not set(unquote(path)) & set("\\\0")
    assert not set(path) & set("?# \\")
    assert segments[0] in {family.name.split("/")[0] for family in FAMILIES}


@given(st.text())
def test_any_text_is_looked_at(path: str) -> None:
    find_route(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/gpt%2D4o", "/v1/models/{id}"),
        ("/%6dodels", "/v1/models"),
        ("/audio/%73peech", "/v1/audio/speech"),
        ("/responses/x/%63ancel", "/v1/responses/{id}/cancel"),
        ("/responses/compact", "/v1/responses/compact"),
        ("/images/unheard-of/of", "/v1/images/*"),
        ("/conversations/x/y/z", "/v1/conversations/*"),
        ("/chat/completions/x/y", "/v1/chat/completions/*"),
    ],
)
def test_a_name_is_what_upstream_reads(path: str, name: str) -> None:
    route = find_route(path)

    assert route is not None
    assert (route.name, route.path) == (name, path)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/chat", "/chat/", "/chat/x", "/chat%2Fcompletions", "/Models", "/models2", "/engines"],
)
def test_what_no_family_has_has_no_route(path: str) -> None:
    assert find_route(path) is None


def test_what_is_open_by_default() -> None:
    assert DEFAULT == (
        "chat/completions", "responses", "conversations", "embeddings", "audio", "images", "moderations", "models",
    )  # fmt: skip


def test_which_posts_must_name_a_model() -> None:
    """Those of the reference; a path or a use of one that is not known must, too. Administration makes none run."""
    posts = [path for family, path in PATHS if "POST" in family.paths[path] and not family.is_administration]

    assert {f"/v1{path}" for path in posts} >= WITHOUT_MODEL | UNSEEN_MODELS
    assert [path for path in posts if f"/v1{path}" not in WITHOUT_MODEL | UNSEEN_MODELS] == [
        "/chat/completions", "/responses", "/responses/compact", "/responses/input_tokens", "/embeddings",
        "/audio/speech", "/audio/transcriptions", "/audio/translations", "/images/edits", "/images/generations",
        "/images/variations", "/moderations", "/fine_tuning/jobs", "/assistants", "/threads/runs", "/threads/{id}/runs",
        "/completions", "/videos", "/videos/edits", "/videos/extensions", "/agents", "/decisions",
    ]  # fmt: skip


def test_what_administers_the_account_is_marked() -> None:
    assert {family.name for family in FAMILIES if family.is_administration} == {"organization", "projects"}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/embeddings", ("POST",)), ("/models", ("GET",)), ("/files/x", ("GET", "DELETE")),
        ("/chat/completions", ("GET", "POST")), ("/images/unheard-of", ("GET", "POST", "DELETE")),
    ],
)  # fmt: skip
def test_which_methods_a_path_has(path: str, methods: tuple[str, ...]) -> None:
    route = find_route(path)

    assert route is not None
    assert route.methods == methods
