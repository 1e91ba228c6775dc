"""Each path and method that the official SDK sends is held by a family: what its next version brings is found here."""

from __future__ import annotations

from proxyapi.routes import ALL, DEFAULT, METHODS, Route, find_route
from tests.support.inputs.sdk_paths import sdk_paths


def route_of(path: str) -> Route | None:
    return find_route(path.replace("{id}", "x_1"))


def test_the_sdk_is_read() -> None:
    paths = sdk_paths()

    assert len(paths) > 200
    assert paths["/files/{id}"] == {"GET", "DELETE"}
    assert paths["/chat/completions"] == {"GET", "POST"}


def test_every_path_of_the_sdk_has_a_family_and_its_own_name() -> None:
    """A failure names what belongs into `openai_paths.txt`, or a family that is missing in `FAMILIES`."""
    unheld = [path for path in sdk_paths() if (route := route_of(path)) is None or route.name != f"/v1{path}"]

    assert unheld == []


def test_every_method_of_the_sdk_passes_where_the_sdk_sends_it() -> None:
    found = {path: set(route.methods) for path in sdk_paths() if (route := route_of(path)) is not None}
    unheld = {path: methods - found[path] for path, methods in sdk_paths().items() if methods - found[path]}

    assert unheld == {}
    assert {method for methods in found.values() for method in methods} == set(METHODS)


def test_what_is_dangerous_is_closed_by_default() -> None:
    assert {"organization", "projects", "vaults", "realtime", "live", "chatkit", "webhook_endpoints"} <= set(ALL)
    assert not {"organization", "projects", "vaults", "realtime", "live", "chatkit"} & set(DEFAULT)
