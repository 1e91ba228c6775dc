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
    """The turns of a conversation, in order, and a map from the ids of tool calls to the parts that show them."""

    turns: list[Turn] = field(default_factory=list)
    calls: dict[str, Part] = field(default_factory=dict)

    def add(self, role: str, parts: list[Part], *, name: str = "", badges: list[Badge] | None = None) -> None:
        """Appends a turn to the conversation, and registers the tool calls in it, so that `add_result` finds them."""
        self.turns.append(Turn(role, parts, name, badges or []))
        self.calls |= {part.call_id: part for part in parts if part.kind is PartKind.TOOL_CALL and part.call_id}

    def add_to_assistant(self, parts: list[Part]) -> None:
        """Adds parts to the last turn, if that is the assistant's; otherwise adds a turn of the assistant with them."""
        if not self.turns or self.turns[-1].role != "assistant":
            self.turns.append(Turn("assistant", []))
        self.turns[-1].parts += parts
        self.calls |= {part.call_id: part for part in parts if part.kind is PartKind.TOOL_CALL and part.call_id}

    def add_result(self, call_id: str, parts: list[Part]) -> None:
        """Adds a tool call's result, the `parts`, to the part of a turn that shows the tool call with the id `call_id`.

        If no tool call has this id, the result becomes a turn of its own.
        """
        if call_id in self.calls:
            self.calls[call_id].results += parts
        else:
            self.add("tool", parts, name=call_id)


def add_messages(found: TurnList, messages: object) -> None:
    """Appends the messages in a chat's request to a conversation's turns; `messages` may be any JSON value."""
    for message in messages if isinstance(messages, list) else [messages]:
        if isinstance(message, dict):
            _add_message(found, Members(message))
        elif message not in (None, "", [], {}):
            found.add("user", content_parts(message))


def add_choices(found: TurnList, choices: list[dict[str, object]]) -> None:
    """Appends a turn to a conversation for each choice in the answer of a chat, or of the older completions API."""
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
    """Returns the parts of a chat message, in this order: reasoning, content, refusal, audio, sources, tool calls.

    The members of the message that are shown in these parts are taken out of it.
    """
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
    """Converts a chat's tool call to parts of a turn: one for the call, and one for its unknown members, if any.

    The latter, and a call that is no JSON object, are shown as JSON.
    """
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
