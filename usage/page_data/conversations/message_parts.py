"""Converts a message's content to parts: texts, refusals, pictures, sounds, files, and cited sources.

Chats, the Responses API and the older APIs have nearly the same kinds of content, under slightly different names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from usage.page_data.conversations.cut_json import NotJSONError, read_json
from usage.page_data.conversations.members import Members, as_json
from usage.page_data.conversations.turns import Link, Part, PartKind

PLACEHOLDER = re.compile(r"<(?:base64 ?)?([\w.+-]{1,60}/[\w.+-]{1,60})?,? ?([\d,]{1,20} bytes)>")
_WEB = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_MEDIA = {
    "image_url": "Image",
    "input_image": "Image",
    "output_image": "Image",
    "image_file": "Image",
    "input_audio": "Audio",
    "output_audio": "Audio",
    "file": "File",
    "input_file": "File",
    "computer_screenshot": "Image",
}
_TEXT_TYPES = {
    "text", "input_text", "output_text", "summary_text", "reasoning_text", "transcript", "",
}  # fmt: skip
_PLACES = (
    "url",
    "image_url",
    "file_url",
    "data",
    "file_data",
    "base64",
    "b64_json",
    "partial_image_b64",
    "file_id",
    "id",
)


def content_parts(content: object, *, markdown: bool = False) -> list[Part]:
    """Converts the content of a message to parts of a turn; an empty content has no parts.

    The content may be a text, an object, or a list of texts and objects; any other value becomes a part with its JSON.
    If `markdown` is true, texts are shown as Markdown.
    """
    if content is None or content in ("", [], {}):
        return []
    if isinstance(content, str):
        return [Part(PartKind.TEXT, content, is_markdown=markdown)]
    if isinstance(content, dict):
        return _parts_of_object(content, markdown=markdown)
    if isinstance(content, list):
        return [part for one in content for part in content_parts(one, markdown=markdown)]
    return [Part(PartKind.JSON, as_json(content))]


def _parts_of_object(content: dict[str, object], *, markdown: bool) -> list[Part]:
    """Converts one object in a message's content to parts: its text or file, cited sources, remaining members."""
    members = Members(content)
    kind = members.text("type")
    if kind == "refusal":
        return [Part(PartKind.REFUSAL, members.text("refusal")), *rest_parts(members)]
    if kind in _MEDIA:
        return [media_part(_MEDIA[kind], members), *rest_parts(members)]
    text = members.text("text") if kind in _TEXT_TYPES else ""
    if not text:
        return [Part(PartKind.JSON, as_json(content), title=kind)]
    found = [Part(PartKind.TEXT, text, is_markdown=markdown)]
    return [*found, *source_parts(members.objects("annotations")), *rest_parts(members)]


def media_part(title: str, members: Members) -> Part:
    """Makes the part of a turn that shows a picture, a sound or a file: type, size, name and URL, if they are stated.

    The shown members are taken out of `members`.
    """
    facts: list[str] = []
    _take_media_facts(members, facts)
    return Part(PartKind.MEDIA, "\n".join(facts), title=title)


def _take_media_facts(members: Members, facts: list[str]) -> None:
    """Removes the facts about a picture, sound or file (name, URL, format) from an object, and appends them to `facts`.

    `members` is the object. Objects inside it, such as `image_url`, are treated in the same way.
    """
    for name in ("filename", *_PLACES, "format", "detail"):
        text = members.text(name)
        if text:
            facts.append(described_medium(text) if name in ("filename", *_PLACES) else f"{name} {text}")
    for name in ("image_url", "image_file", "input_audio", "file"):
        inner = members.members(name)
        if inner.rest:
            _take_media_facts(inner, facts)
            members.give_back(name, inner)


def described_medium(text: str) -> str:
    """Converts the placeholder that the log has for a picture, sound or file to its media type and size, as text.

    Any other text is returned unchanged.
    """
    found = PLACEHOLDER.fullmatch(text.strip())
    return ", ".join(group for group in found.groups() if group) if found else text


def source_parts(annotations: Iterable[Mapping[str, object]]) -> list[Part]:
    """Returns a list with one part of a turn: links to the sources that a text cites; an empty list without sources.

    A source that is cited several times has one link.
    """
    links: dict[Link, None] = {}
    for annotation in annotations:
        members = Members(annotation)
        inner = members.members(members.text("type"))  # as in a chat: {"type": "url_citation", "url_citation": {…}}
        for one in (inner, members):
            one.drop("start_index", "end_index", "index")
            if one.rest:
                links[_take_link(one)] = None
    return [Part(PartKind.SOURCES, links=list(links))] if links else []


def link_to(source: Mapping[str, object]) -> Link:
    """Makes a link from an object that describes a source: a web page or a file.

    The text of the link has the title, name or id of the source, and all other facts in the object.
    """
    return _take_link(Members(source))


def _take_link(source: Members) -> Link:
    source.drop("type")
    url = source.text("url")
    names = [text for name in ("title", "filename", "file_id") if (text := source.text(name))]
    if not _WEB.match(url):  # a browser shall open nothing else
        names, url = [*names, url], ""
    return Link(" ".join(filter(None, (*names, source.rest_as_json()))) or url, url)


def rest_parts(members: Members, title: str = "") -> list[Part]:
    """Returns the members of an object that no other part of its turn shows, as one more part, in JSON.

    The result is a list with this part, or an empty list if other parts show all members.
    """
    rest = members.rest_as_json()
    return [Part(PartKind.JSON, rest, title=title, is_open=False)] if rest else []


def indented(text: str) -> str:
    """Indents a text that is a JSON object or list, such as a tool's arguments; returns any other text unchanged."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return as_json(read_json(text))
    except NotJSONError:
        return text
