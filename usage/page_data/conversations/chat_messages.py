"""Converts the messages and choices of a chat to turns of a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

from usage.page_data.conversations.members import Members, as_json
from usage.page_data.conversations.message_parts import (
    content_parts,
    indented,
    media_part,
    rest_parts,
    source_parts,
)
from usage.page_data.conversations.turns import Badge, Part, PartKind, Turn

MARKDOWN_ROLES = {"assistant", "system", "developer"}  # what users and tools write is shown as it was written
_USUAL_ENDS = {"stop", "tool_calls", "function_call", "completed"}


@dataclass
class TurnList:
    """The turns of a conversation made so far, and the tool calls in them that may still get a result."""

    turns: list[Turn] = field(default_factory=list)
    calls: dict[str, Part] = field(default_factory=dict)

    def add(self, role: str, parts: list[Part], *, name: str = "", badges: list[Badge] | None = None) -> None:
        """Adds a turn to the conversation, and remembers its tool calls, which may get results later."""
        self.turns.append(Turn(role, parts, name, badges or []))
        self.calls |= {part.call_id: part for part in parts if part.kind is PartKind.TOOL_CALL and part.call_id}

    def add_to_assistant(self, parts: list[Part]) -> None:
        """Adds parts to the last turn, if that is the assistant's; otherwise adds a turn of the assistant with them."""
        if not self.turns or self.turns[-1].role != "assistant":
            self.turns.append(Turn("assistant", []))
        self.turns[-1].parts += parts
        self.calls |= {part.call_id: part for part in parts if part.kind is PartKind.TOOL_CALL and part.call_id}

    def add_result(self, call_id: str, parts: list[Part]) -> None:
        """Adds the result of a tool call beneath the call; if the call is not known, it becomes a turn of its own."""
        if call_id in self.calls:
            self.calls[call_id].results += parts
        else:
            self.add("tool", parts, name=call_id)


def add_messages(found: TurnList, messages: object) -> None:
    """Adds the messages of a chat's request to the turns; accepts any value as `messages`."""
    for message in messages if isinstance(messages, list) else [messages]:
        if isinstance(message, dict):
            _add_message(found, Members(message))
        elif message not in (None, "", [], {}):
            found.add("user", content_parts(message))


def add_choices(found: TurnList, choices: list[dict[str, object]]) -> None:
    """Adds the choices of a chat's answer, or of an older completion, to the turns: one turn for each choice."""
    for number, choice in enumerate(choices):
        members = Members(choice)
        message = members.members("message")
        members.drop("index")
        role = message.text("role") or "assistant"
        reason = members.text("finish_reason")
        parts = _message_parts(message, role) + content_parts(members.any("text"), markdown=True)
        badges = [Badge(f"choice {number}")] if len(choices) > 1 else []
        badges += [Badge(reason.replace("_", " "), is_warning=reason not in _USUAL_ENDS)] if reason else []
        if any(part.kind is PartKind.REFUSAL for part in parts):
            badges.append(Badge("refused", is_warning=True))
        found.add(role, [*parts, *rest_parts(message), *rest_parts(members)], badges=badges)


def _add_message(found: TurnList, message: Members) -> None:
    role = message.text("role") or "user"
    name = message.text("name")
    call_id = message.text("tool_call_id") or (name if role == "function" else "")
    parts = [*_message_parts(message, role), *rest_parts(message)]
    if role in ("tool", "function"):
        for part in parts:
            part.text = indented(part.text)
        found.add_result(call_id, parts)
    else:
        found.add(role, parts, name=name)


def _message_parts(message: Members, role: str) -> list[Part]:
    """Returns the parts of a message, in this order: reasoning, content, refusal, audio, sources, tool calls."""
    parts = [
        Part(PartKind.REASONING, text)
        for text in (message.text("reasoning_content"), message.text("reasoning"))
        if text
    ]
    parts += content_parts(message.any("content"), markdown=role in MARKDOWN_ROLES)
    if refusal := message.text("refusal"):
        parts.append(Part(PartKind.REFUSAL, refusal))
    audio = message.members("audio")
    if audio.rest:
        transcript = audio.text("transcript")
        parts.append(media_part("Audio", audio))
        parts += content_parts(transcript, markdown=True)
        message.give_back("audio", audio)
    parts += source_parts(message.objects("annotations"))
    calls = message.any("tool_calls")
    for call in calls if isinstance(calls, list) else [calls]:
        if call is not None:
            parts += _tool_call(call)
    if (called := message.any("function_call")) is not None:
        parts += _tool_call({"function": called})
    return parts


def _tool_call(call: object) -> list[Part]:
    """Returns the part for a tool call in a chat, followed by a part with its unknown members."""
    if not isinstance(call, dict):
        return [Part(PartKind.JSON, as_json(call))]
    members = Members(call)
    call_id = members.text("id")
    members.drop("type", "index")
    kind = "custom" if "custom" in members.rest else "function"
    called = members.members(kind)
    name = called.text("name")
    text = called.text("arguments", "input")
    members.give_back(kind, called)
    # The older form of a call has no id: its result names the function.
    part = Part(PartKind.TOOL_CALL, indented(text), title=name or "tool", call_id=call_id or name)
    return [part, *rest_parts(members)]
