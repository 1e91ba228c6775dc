"""Markdown of strangers on a page: it is drawn, and does nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.growth import wait_until_linear
from usage.page_data.conversations.safe_markdown import markdown_html
from usage.untrusted_text import INVISIBLE

TAGS = {
    "p", "a", "em", "strong", "s", "code", "pre", "ul", "ol", "li", "blockquote", "h4", "h5", "h6", "hr", "br",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
PIECES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "[a](javascript:alert(1))", "![p](https://x/y.png)",
    "[a](/admin/logout/)", "<javascript:alert(1)>", "[r]: javascript:alert(1)\n\n[r]", "&#x202e;", "\u202e", "\0",
    "[t](https://x 'on\"load=1')", "```\" onload=x\ncode\n```", "<a href=//x>", "[d](data:text/html,<b>)", "**b**",
    "| a |\n|:-:|\n| b |\n", "\n\n", "# h ", "- ", "> ", "`c`", "&lt;b&gt;", "\u2067", "[u](http://x/%E2%80%AE)",
    "\r\n", "<http://x/%E2%80%AE>", "7) n\n", "~~s~~", "\ud800",
]  # fmt: skip


class Reader(HTMLParser):
    """Collects the tags and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(markdown_html(text))
    reader.close()
    return reader


def test_it_is_drawn() -> None:
    html = markdown_html("# Hi\n\n**b** [l](https://x.example) <b>\n\n| a |\n|:-:|\n| 1 |\n\n```py\nx\n```")

    assert "<h4>Hi</h4>" in html
    assert "<strong>b</strong>" in html
    assert 'href="https://x.example"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert "&lt;b&gt;" in html
    assert "<td>1</td>" in html
    assert "<pre><code>x\n</code></pre>" in html


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join))
def test_nothing_in_it_acts(text: str) -> None:
    found = read(text)

    assert {tag for tag, _ in found.tags} <= TAGS
    for tag, attributes in found.tags:
        assert set(attributes) <= ({"href", "title", "rel", "target"} if tag == "a" else {"start"})
        assert re.match(r"https?:|mailto:", attributes.get("href") or "https:", re.IGNORECASE)
    assert not INVISIBLE.search(found.text)


@given(st.lists(st.sampled_from(["*", "_", "[", "](x)", "`", "#", "\n", "<", "|", ":", "- ", "&amp;", "\\"]) |
                st.integers(10**6, 10**7).map(str), max_size=20))  # fmt: skip
def test_no_word_is_lost(pieces: list[str]) -> None:
    text = read(" ".join(pieces)).text

    assert all(piece in text for piece in pieces if piece.isdecimal())


@pytest.mark.parametrize(
    "piece", ["[", "[a](", "*a_b **c ", "a**b_c", "> ", "|", "|a", "![", "# a\n", "<a", "1) a\n 2. b\n", "|a|\n|-|\n"]
)
def test_the_worst_text_takes_no_longer_than_its_length(piece: str) -> None:
    wait_until_linear(lambda length: markdown_html((piece * length)[:length]), 20_000)


def test_a_wide_table_takes_no_longer_than_its_length() -> None:
    def run(length: int) -> None:
        markdown_html(f"{'|a' * length}\n{'|-' * length}\n" + "|\n" * (length // 5))

    wait_until_linear(run, 5000)


def test_a_table_has_no_more_cells_than_its_text_has_characters() -> None:
    head = f"{'|a' * 50}\n{'|-' * 50}\n"

    assert "<table>" not in markdown_html(head + "a\n" * 200)
    assert markdown_html(head + f"{'|a' * 50}\n" * 20).count("<td>") == 1000
    assert "<table>" in markdown_html("a|b\n-|-\n1|2\n")
