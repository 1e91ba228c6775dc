"""What a request to upstream is about, its route says: the path may be spelled in many ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.keys.credentials import Credentials
from proxyapi.routes import FAMILIES
from proxyapi.upstream.request import UpstreamRequest

PATHS = sorted(path.replace("{id}", "x_1") for family in FAMILIES for path in family.paths)


def request(path: str) -> UpstreamRequest:
    return UpstreamRequest("POST", path, Credentials("sk-x"), deadline=0.0)


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A path of OpenAI's, and the same path with some letters percent-encoded, and perhaps a slash at its end."""
    path = draw(st.sampled_from(PATHS))
    encoded = draw(st.sets(st.integers(1, len(path) - 1)))
    written = "".join(
        f"%{ord(letter):02x}" if at in encoded and letter != "/" else letter for at, letter in enumerate(path)
    )
    return path, written + draw(st.sampled_from(["", "/"]))


@given(spelled())
def test_the_spelling_of_a_path_does_not_matter(paths: tuple[str, str]) -> None:
    """A stream of pictures that counts as one of text costs nothing if its caller leaves before any picture."""
    usual, odd = map(request, paths)
    assert usual.route is not None
    assert odd.route is not None
    assert odd.route.name == usual.route.name
    assert odd.is_of_text == usual.is_of_text


@pytest.mark.parametrize("path", PATHS)
def test_pictures_and_sound_are_no_text(path: str) -> None:
    assert request(path).is_of_text is not path.startswith(("/images/", "/audio/"))
