"""Reads the logged text of a streamed answer, which `usage.answers.streamed_text` has made from the events.

If there are several texts, each is below a line such as `[choice 1: tool call get_weather]`.
"""

from __future__ import annotations

import re

from usage.page_data.conversations.chat_messages import TurnList
from usage.page_data.conversations.message_parts import content_parts, indented
from usage.page_data.conversations.turns import Badge, Part, PartKind

_CALLS = (
    "tool call", "function call", "custom tool call", "MCP call", "mcp call", "shell command", "shell call",
    "local shell call", "apply patch call", "program",
)  # fmt: skip
_KINDS = (
    "text", "refusal", "reasoning summary", "reasoning", "audio transcript", "error", "code", "message", *_CALLS,
    "other text", "web search call", "file search call", "image generation call", "code interpreter call",
    "computer call",
)  # fmt: skip
_HEAD = re.compile(
    rf"(?:\A|\n\n)\[(?:(?P<source>choice|output) (?P<number>-?\d{{1,7}}): )?(?P<kind>{'|'.join(_KINDS)})"
    r"(?: (?P<name>[^\n]{1,300}))?\]\n"
)


def add_streamed(found: TurnList, text: str) -> None:
    """Appends the turns in the logged text of a streamed answer to a conversation.

    There is a turn for each choice of a chat, or one turn for a response.
    """
    heads = list(_HEAD.finditer(text))
    if not heads or heads[0].start() > 0:
        found.add("assistant", content_parts(text, markdown=True))
        return
    ends = [head.start() for head in heads[1:]] + [len(text)]
    turns: dict[str, list[Part]] = {}
    for head, end in zip(heads, ends, strict=True):
        choice = head["number"] if head["source"] == "choice" else "0"
        turns.setdefault(choice, []).append(_part(head["kind"], head["name"] or "", text[head.end() : end]))
    for choice, parts in turns.items():
        badges = [Badge(f"choice {choice}")] if len(turns) > 1 else []
        if any(part.kind is PartKind.REFUSAL for part in parts):
            badges.append(Badge("refused", is_warning=True))
        found.add("assistant", parts, badges=badges)


def _part(kind: str, name: str, text: str) -> Part:
    if kind in _CALLS or kind == "code":
        return Part(PartKind.TOOL_CALL, indented(text), title=name or kind)
    if kind.startswith("reasoning"):
        return Part(PartKind.REASONING, text, title=name, is_markdown=True)
    if kind in ("text", "message", "audio transcript"):
        return Part(PartKind.TEXT, text, title=" ".join((kind, name)).strip() if kind == "audio transcript" else name,
                    is_markdown=True)  # fmt: skip
    if kind == "refusal":
        return Part(PartKind.REFUSAL, text, title=name)
    return Part(PartKind.TEXT, text, title=f"{kind} {name}".strip())
