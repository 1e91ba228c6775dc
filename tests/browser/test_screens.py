"""Pictures of every page: `make screens` keeps them in docs/screens; else they are taken and thrown away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.conftest import SignIn
from tests.gateway import Gateway

LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_seen(busy_site: Gateway, sign_in: SignIn, look: str, tmp_path: Path) -> None:
    kept = Path(os.environ.get("SCREENS", tmp_path))
    page = sign_in(busy_site, **LOOKS[look])
    one = busy_site.rows("WHERE stream AND outcome = 'success'")[-1]["request_id"]
    pages = {
        "index": "/",
        "dashboard": "/admin/?range=month",
        "requests": "/admin/usage/request/",
        "request": f"/admin/usage/request/{one}/change/",
        "errors": "/admin/usage/errors/?range=month",
    }
    for name, path in pages.items():
        page.goto(busy_site.url + path)
        page.wait_for_load_state("networkidle")
        picture = kept / f"{name}-{look}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size < 250_000
