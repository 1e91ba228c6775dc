"""The theme's templates are mended when they are read; a version of the theme that is written otherwise is noticed."""

from __future__ import annotations

import pytest
from django.template.loader import get_template

from chatproxy.page_protection import theme_templates
from chatproxy.page_protection.theme_templates import MissingPart, mended


@pytest.mark.parametrize("name", theme_templates._CHANGES)
def test_every_change_fits_the_theme(name: str) -> None:
    get_template(name.removeprefix("unfold/templates/"))


def test_icons_are_hidden_from_screen_readers() -> None:
    text = '<span class="text-base material-symbols-outlined">add</span> <span class="x">add</span>'
    assert mended("/unfold/x.html", text) == (
        '<span aria-hidden="true" class="text-base material-symbols-outlined">add</span> <span class="x">add</span>'
    )


def test_a_theme_that_is_written_otherwise_is_noticed() -> None:
    with pytest.raises(MissingPart, match="inter/styles"):
        mended("/unfold/layouts/skeleton.html", "<html></html>")
