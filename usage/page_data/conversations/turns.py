"""The types for a conversation on a call's page: its turns, and the parts of each turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MAX_OPEN_LINES = 24
MAX_OPEN_CHARACTERS = 1800  # a longer text of the request is folded at first
PREVIEW_CHARACTERS = 160
ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


class PartKind(StrEnum):
    """The kind of a part of a turn, which decides how the part is drawn."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"  # the results are parts of it
    SEARCH = "search"
    SOURCES = "sources"  # what the text cites, as links
    MEDIA = "media"  # an image, a sound or another file, of which only type, size and place are known
    JSON = "json"  # what is not understood, or of little interest


@dataclass(frozen=True)
class Link:
    """A page or a file that an answer cites. `url` is empty if the link must not be opened in a browser."""

    text: str
    url: str = ""


@dataclass(frozen=True)
class Badge:
    """A short remark beside the name of a turn's role, such as why a model stopped."""

    text: str
    is_warning: bool = False


@dataclass
class Part:
    """A part of a turn: a text, a call of a tool, a picture, and so on.

    `title` is the name of a tool, or a kind such as picture. `text` is the text itself, the arguments of a tool call,
    the queries of a search, or the type and size of a picture, sound or file. `call_id` connects a tool call with its
    results.
    """

    kind: PartKind
    text: str = ""
    title: str = ""
    call_id: str = ""
    is_markdown: bool = False
    is_open: bool = True
    links: list[Link] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)

    @property
    def preview(self) -> str:
        """The start of the part's text on one line, shown while the part is folded."""
        start = self.text[: 2 * PREVIEW_CHARACTERS].split()
        return " ".join(start)[:PREVIEW_CHARACTERS]

    @property
    def lines(self) -> int:
        """The number of lines of this part's text."""
        return self.text.count("\n") + 1

    @property
    def is_long(self) -> bool:
        """True if the text is so long that the page shows the part folded at first."""
        return len(self.text) > MAX_OPEN_CHARACTERS or self.lines > MAX_OPEN_LINES


@dataclass
class Turn:
    """One turn of a conversation: what one side says before the other side answers.

    `name` tells several users apart. If the turn is a tool's result, and the call of the tool is not in the
    conversation, `name` is the id of that call.
    """

    role: str
    parts: list[Part]
    name: str = ""
    badges: list[Badge] = field(default_factory=list)

    @property
    def role_class(self) -> str:
        """The turn's role if it is a known one, else `other`, for use as a CSS class."""
        return self.role if self.role in ROLES else "other"


@dataclass
class BodyRemains:
    """The members of a logged body that the page does not show as turns, and how much of the body was logged.

    `parameters` are the short members, as pairs of name and value. `rest` is the indented JSON of all other members; it
    may be empty. `kept_bytes` is the number of bytes that were logged, and `cut_bytes` the number of bytes that were
    cut off.
    """

    parameters: list[tuple[str, str]] = field(default_factory=list)
    rest: str = ""
    kept_bytes: int = 0
    cut_bytes: int = 0

    @property
    def whole_bytes(self) -> int:
        """The size of the logged body before it was cut, in bytes."""
        return self.kept_bytes + self.cut_bytes


@dataclass
class Conversation:
    """The conversation in one call: the turns in the request, and the turns in the model's answer.

    `earlier` are the turns of the request before the last exchange; the page shows them folded. `continues` is the id
    of the earlier response or conversation that the call continues; the turns of that one are not in this call.
    """

    earlier: list[Turn]
    asked: list[Turn]
    answered: list[Turn]
    request: BodyRemains
    response: BodyRemains
    continues: str = ""
    left_out: int = 0  # turns before `earlier` that are too many to be shown
