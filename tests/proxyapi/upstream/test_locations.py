"""Where `Location` leads: to the gateway if upstream means its own API, and never away with a body."""

from __future__ import annotations

import pytest

from proxyapi.upstream.passed_headers import location_down

BASE = "https://up.example:8443/api/v1"
OWN = [
    ("/api/v1/realtime/calls/rtc_1", "/v1/realtime/calls/rtc_1"),
    ("https://up.example:8443/api/v1/embeddings", "/v1/embeddings"),
    ("https://UP.example:8443/api/v1/files?after=x#y", "/v1/files?after=x#y"),
    ("/api/v1", "/v1"),
]
ELSEWHERE = [
    "https://files.example/a?b=c",
    "http://up.example:8443/api/v1/embeddings",  # not over TLS
    "https://up.example:8443/api/v10/embeddings",
    "https://up.example:8443/login",
    "//files.example/api/v1/a",
]
WITHIN = ["part-2", "?page=2", "/login"]


@pytest.mark.parametrize("root_path", ["", "/ai"])
@pytest.mark.parametrize("status", [201, 202, 307, 308])
@pytest.mark.parametrize(("location", "path"), OWN)
def test_a_place_of_upstreams_api_is_one_of_ours(location: str, path: str, status: int, root_path: str) -> None:
    found = location_down(location, base_url=BASE, root_path=root_path, method="POST", status=status)
    assert found == root_path + path


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("HEAD", 307), ("POST", 201), ("POST", 405)])
@pytest.mark.parametrize("location", [*ELSEWHERE, *WITHIN])
def test_another_place_passes(location: str, method: str, status: int) -> None:
    assert location_down(location, base_url=BASE, root_path="/ai", method=method, status=status) == location


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ELSEWHERE)
def test_no_redirect_takes_a_body_away(location: str, status: int) -> None:
    assert location_down(location, base_url=BASE, root_path="", method="POST", status=status) is None


def test_what_is_no_url_is_left_out() -> None:
    assert location_down("http://[", base_url=BASE, root_path="", method="GET", status=302) is None
