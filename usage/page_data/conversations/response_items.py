"""Converts items of the Responses API (a request's input, an answer's output) to turns of a conversation."""

from __future__ import annotations

from usage.page_data.conversations.chat_messages import MARKDOWN_ROLES, TurnList
from usage.page_data.conversations.members import Members, as_json
from usage.page_data.conversations.message_parts import (
    content_parts,
    indented,
    link_to,
    media_part,
    rest_parts,
)
from usage.page_data.conversations.turns import Badge, Part, PartKind

SEARCHES = {"web_search_call": "Web search", "file_search_call": "File search"}
_OUTPUT = "_call_output"
_UNINTERESTING_STATUS = ("completed", "in_progress", "")


def add_items(found: TurnList, items: object, role: str = "user") -> None:
    """Appends items of a request's input or of an answer's output to the turns of a conversation.

    An item that is a plain text becomes a turn with the role `role`.
    """
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, dict):
            _add_item(found, Members(item), role)
        elif item not in (None, "", [], {}):
            found.add(role, content_parts(item, markdown=role in MARKDOWN_ROLES))


def _add_item(found: TurnList, item: Members, role: str) -> None:
    kind = item.text("type")
    status = item.text("status")
    if kind == "message" or "role" in item.rest or (not kind and "content" in item.rest):
        _add_message(found, item, role, status)
    elif kind.endswith(_OUTPUT):
        call_id = item.text("call_id")
        output = content_parts(item.any("output"))
        for part in output:
            part.text = indented(part.text)
        found.add_result(call_id, [*output, *rest_parts(item)])
    else:
        parts = _parts_of_item(kind, item)
        if parts and status not in _UNINTERESTING_STATUS:
            parts[0].title = f"{parts[0].title} ({status})".strip()
        found.add_to_assistant(parts)


def _add_message(found: TurnList, item: Members, role: str, status: str) -> None:
    said_by = item.text("role") or role
    item.drop("id")
    parts = [*content_parts(item.any("content"), markdown=said_by in MARKDOWN_ROLES), *rest_parts(item)]
    badges = [] if status in _UNINTERESTING_STATUS else [Badge(status, is_warning=True)]
    if any(part.kind is PartKind.REFUSAL for part in parts):
        badges.append(Badge("refused", is_warning=True))
    if said_by == "assistant" and not badges:
        found.add_to_assistant(parts)
    else:
        found.add(said_by, parts, badges=badges)


def _parts_of_item(kind: str, item: Members) -> list[Part]:
    """Converts an item that is not a message, such as a tool call or reasoning, to parts of a turn."""
    item_id = item.text("id")
    if kind == "reasoning":
        return _reasoning(item)
    if kind in SEARCHES:
        return _search(kind, item)
    if kind == "code_interpreter_call":
        results = content_parts(_texts_of_outputs(item.any("outputs")))
        code = Part(PartKind.TOOL_CALL, item.text("code"), title="code interpreter", results=results)
        return [code, *rest_parts(item)]
    if kind == "image_generation_call":
        item.rest["data"] = item.any("result")
        revised = content_parts(item.text("revised_prompt"))
        return [media_part("Image", item), *revised, *rest_parts(item)]
    if kind.endswith("_call"):
        name = item.text("name") or kind.removesuffix("_call").replace("_", " ")
        text = item.text("arguments", "input")
        call = Part(PartKind.TOOL_CALL, indented(text), title=name, call_id=item.text("call_id") or item_id)
        call.results = [*content_parts(item.any("output")), *content_parts(item.any("error"))]
        return [call, *rest_parts(item)]
    return rest_parts(item, kind or "item") or [Part(PartKind.JSON, "{}", title=kind or "item", is_open=False)]


def _reasoning(item: Members) -> list[Part]:
    parts = content_parts(item.any("summary"), markdown=True) + content_parts(item.any("content"), markdown=True)
    for part in parts:
        part.kind = PartKind.REASONING if part.kind is PartKind.TEXT else part.kind
    return [*parts, *rest_parts(item, "reasoning")]


def _search(kind: str, item: Members) -> list[Part]:
    """Converts a web search or file search to parts of a turn: its queries, and the pages or texts that it found."""
    action = item.members("action")
    queries = [*action.texts("queries"), *item.texts("queries")]
    if (query := action.text("query")) and query not in queries:
        queries.insert(0, query)
    links = [link_to(source) for source in action.objects("sources")]
    if url := action.text("url"):
        links.append(link_to({"url": url}))
    action.drop("type")
    item.give_back("action", action)
    results: list[Part] = []
    for result in item.objects("results"):
        members = Members(result)
        name = members.text("filename") or members.text("file_id")
        text = members.text("text")
        results += [Part(PartKind.TEXT, text, title=name)] if text or name else []
        results += rest_parts(members)
    words = "\n".join(queries)
    part = Part(PartKind.SEARCH, words, title=SEARCHES[kind], links=[*dict.fromkeys(links)], results=results)
    return [part, *rest_parts(item)]


def _texts_of_outputs(outputs: object) -> list[object]:
    """Converts the outputs of a code interpreter to the format of a message's content: logs become plain texts."""
    if not isinstance(outputs, list):
        return [] if outputs is None else [as_json(outputs)]
    return [
        output["logs"] if isinstance(output, dict) and isinstance(output.get("logs"), str) else output
        for output in outputs
    ]
