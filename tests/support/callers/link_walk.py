"""Walks through a site that is mounted under a path: follows every reference in an answer to its own host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

REFERRING = {
    "href",
    "src",
    "action",
    "formaction",
    "data-url",
    "poster",
    "data",
    "content",
    "x-data",
    "hx-get",
    "hx-post",
}
WHOLE_URL = re.compile(r"https?://[^\s\"'<>\\)]+")
CSS_URL = re.compile(r"url\(\s*[\"']?([^\"')]+)")
SCRIPT_PATH = re.compile(r"[\"'`](/(?:admin|my-usage|static|docs|openapi\.json)\b[^\"'`]*)")


class References(HTMLParser):
    """HTML parser that collects the URLs and paths to which a page refers, in its elements, scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            name = name.removeprefix(":").removeprefix("x-bind:")
            if not value:
                continue
            self.found += CSS_URL.findall(value) + SCRIPT_PATH.findall(value)
            if name in REFERRING and (value.startswith(("/", "http:", "https:", "?", ".")) or name in {"href", "src"}):
                self.found.append(value)

    def handle_data(self, data: str) -> None:
        self.found += CSS_URL.findall(data) + SCRIPT_PATH.findall(data)


class LinkWalk:
    """A walk through the site at `origin`, which is mounted under the path `root`, along its links and files.

    `visited` has the status of each path that was requested. `escapes` has the links and cookies that point outside
    `root`, each with the page where it was found.
    """

    def __init__(self, browser: httpx2.Client, origin: str, root: str) -> None:
        self.browser = browser
        self.root = root
        self.visited: dict[str, int] = {}
        self.escapes: set[tuple[str, str]] = set()
        self._hosts = {urlsplit(origin).netloc}
        self._origin = origin

    def walk(self, paths: list[str]) -> None:
        """Requests the given paths, and every link and file of the site that they lead to; requests each path once."""
        queue = list(paths)
        while queue:
            path = queue.pop(0)
            if urlsplit(path).path not in self.visited and not path.endswith("/logout/"):
                queue += self.look_at(self.browser.get(self._origin + path, follow_redirects=False))

    def look_at(self, answer: httpx2.Response) -> list[str]:
        """Records the status of an answer, and its links that leave `root`; returns the paths of the site in it."""
        here = str(answer.url)
        self.visited[urlsplit(here).path] = answer.status_code
        for cookie in answer.headers.get_list("set-cookie"):
            scope = re.search(r"(?i)path=([^;]*)", cookie)
            if scope is None or not scope[1].startswith(f"{self.root}/"):
                self.escapes.add((here, cookie.split("=")[0] + " cookie"))
        return [path for reference in references_of(answer) if (path := self.checked(here, reference))]

    def checked(self, here: str, reference: str) -> str:
        target = urlsplit(urljoin(here, reference))
        if target.scheme not in {"http", "https"} or target.netloc not in self._hosts:
            return ""
        if not f"{target.path}/".startswith(f"{self.root}/"):
            self.escapes.add((here, reference))
            return ""
        return target.path + (f"?{target.query}" if target.query else "")


def references_of(answer: httpx2.Response) -> Iterator[str]:
    if location := answer.headers.get("location"):
        yield location
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind in {"text/html", "application/json"}:
        for text in [answer.text] if kind == "text/html" else texts_in(answer.json()):
            page = References()
            page.feed(text)
            yield from page.found
            yield from WHOLE_URL.findall(unescape(text))
    elif kind == "text/css":
        yield from CSS_URL.findall(answer.text)
    elif kind in {"text/javascript", "application/javascript"} and "swagger" not in str(answer.url):
        yield from SCRIPT_PATH.findall(answer.text)


def texts_in(value: Any) -> Iterator[str]:
    """Yields every string in a JSON value, at any depth; in an answer to a page's script, some are pieces of HTML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
