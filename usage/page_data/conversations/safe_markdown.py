"""Converts Markdown that strangers have written to harmless HTML: `markdown_html`.

The parser is markdown-it-py: it follows CommonMark, takes time in proportion to the text, and returns tokens, so that
the content of a page can be checked token by token. HTML in the text stays text, no picture is fetched, and only links
to `http:`, `https:` and `mailto:` are links. No part of the text is lost: definitions of links, and entities, stay as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from usage.untrusted_text import escape_invisible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_COLUMNS = 50  # of a table; each row of a wider one would get all of its cells, in a time that grows with the square
MAX_NESTING = 20
LINK = {"rel": "noopener noreferrer nofollow", "target": "_blank"}
_SAFE_SCHEMES = re.compile(r"(?:https?|mailto):", re.IGNORECASE)
_HEADINGS = {"h1": "h4", "h2": "h5", "h3": "h6", "h4": "h6", "h5": "h6"}  # below the headings of the page


def markdown_html(text: str) -> str:
    """Converts Markdown text to harmless HTML; invisible characters become codes such as `<U+202E>`."""
    reader = _reader()
    written = escape_invisible(text.replace("\r\n", "\n"))
    if _may_have_large_tables(written):
        reader = _reader(tables=False)
    tokens = reader.parse(written)
    for token in _all_tokens(tokens):
        _make_harmless(token)
    return str(reader.renderer.render(tokens, reader.options, {}))


def _may_have_large_tables(text: str) -> bool:
    """Returns whether a Markdown text may have tables that are too large to render.

    A table may have more cells than are written, since each row gets as many as the head has. It is too large if it has
    more than `MAX_COLUMNS` columns, or more cells than the text has characters.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    columns = max((line.count("|") for line in lines), default=0)
    return columns > MAX_COLUMNS or columns * len(lines) > len(text)


@cache
def _reader(*, tables: bool = True) -> MarkdownIt:
    # Loaded when a conversation is shown first: a worker that shows none saves its memory.
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": MAX_NESTING})
    reader.enable(["strikethrough", *(["table"] if tables else [])])
    # An entity could be an invisible character, a reference would vanish, and a picture would be fetched.
    reader.disable(["html_block", "html_inline", "entity", "reference", "image"])
    reader.validateLink = lambda url: bool(_SAFE_SCHEMES.match(url))  # type: ignore[method-assign]  # meant to be set
    return reader


def _all_tokens(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all_tokens(token.children or ())


def _make_harmless(token: Token) -> None:
    """Changes a Markdown token so that it can do no harm on a page.

    All attributes are removed, except a link's address and a list's first number. Invisible characters become visible,
    and headings become smaller than those of the page.
    """
    token.content = escape_invisible(token.content)
    token.info = ""  # would become a class of the page
    token.tag = _HEADINGS.get(token.tag, token.tag)
    href, start = token.attrs.get("href"), token.attrs.get("start")
    token.attrs = {}
    if token.type == "link_open" and href:
        token.attrs = {"href": href, "title": escape_invisible(str(href)), **LINK}
    elif start is not None:
        token.attrs = {"start": start}
