"""Makes the conversation of a call from its logged bodies: `conversation_of`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from usage.page_data.conversations.chat_messages import TurnList, add_choices, add_messages
from usage.page_data.conversations.cut_json import NotJSONError, read_json, split_cut
from usage.page_data.conversations.members import Members, as_json
from usage.page_data.conversations.message_parts import content_parts, described_medium, media_part, rest_parts
from usage.page_data.conversations.response_items import add_items
from usage.page_data.conversations.streamed_blocks import add_streamed
from usage.page_data.conversations.turns import Badge, BodyRemains, Conversation, Part, PartKind, Turn

MAX_MARKDOWN_CHARACTERS = 60_000  # of one page; reading more could take seconds
MAX_TURNS_IN_SIGHT = 8  # of a request; those before are folded
MAX_PARTS = 500  # of one page; more would make it slow, and stay in the view of the JSON
MAX_FORM_LINES = 250
# What is asked of these routes, and what they answer, is no conversation.
_OTHER_ROUTES = re.compile(
    r"/v1/(?:embeddings|moderations|models|files|vector_stores|batches|uploads|fine_tuning|containers)|/embeddings"
)
_FORM_LINE = re.compile(r"(?P<name>[\w\[\].-]{1,100}): (?P<value>.*)", re.ASCII | re.DOTALL)
_QUERY = re.compile(r"[\w.-]{1,100}=[^\s]*+\Z", re.ASCII)  # a form that is written like the query of a URL
_UPLOAD = re.compile(r"<(?P<name>.{0,300}), (?P<type>[\w.+/-]{1,100}), (?P<size>[\d,]{1,20} bytes)>")
_WHOLE_BINARY = re.compile(r"<[\w.+-]{1,60}(?:/[\w.+-]{1,60})?, [\d,]{1,20} bytes>")
_ANSWERED = {"choices", "output", "object", "error"}  # one of them is in each JSON answer in place of a stream


def conversation_of(route: str, request_body: str, response_body: str, *, is_streamed: bool) -> Conversation | None:
    """Converts a call's logged bodies to a conversation; None if no body was logged, or the route has no conversations.

    `is_streamed` says whether the answer was a stream; the log of a stream is a text made from its events.
    """
    if _OTHER_ROUTES.match(route) or not (request_body or response_body):
        return None
    found = TurnList()
    request, continues = _read_request(found, request_body)
    asked = len(found.turns)
    response = _read_response(found, response_body, is_streamed=is_streamed)
    answered = found.turns[asked:]
    room = _limit_parts(answered, MAX_PARTS)
    turns = _newest(found.turns[:asked], room)
    earlier, recent = _split(turns)
    if "/audio/" in route:  # what was said is no Markdown
        for part in (part for turn in answered for part in turn.parts):
            part.is_markdown = False
    _limit_markdown([*answered, *reversed(recent), *reversed(earlier)])
    return Conversation(earlier, recent, answered, request, response, continues, left_out=asked - len(turns))


def _read_request(found: TurnList, text: str) -> tuple[BodyRemains, str]:
    """Parses a request's logged body, and appends the turns of the conversation in it to `found`.

    Returns what the body has besides, such as parameters; and the id of the response or conversation that the request
    continues, or "" if it continues none.
    """
    start, cut = split_cut(text)
    remains = BodyRemains(kept_bytes=len(start.encode(errors="replace")), cut_bytes=cut)
    try:
        body = read_json(text)
    except NotJSONError:
        _add_form(found, text, remains)
        return remains, ""
    if not isinstance(body, dict):
        found.add("user", content_parts(body))
        return remains, ""
    members = Members(body)
    # Instructions apply before all that is said, wherever they stand.
    found.turns += [
        Turn("system", content_parts(text, markdown=True))
        for text in (members.text("instructions"), members.text("systemMessage"))
        if text
    ]
    add_messages(found, members.any("messages"))
    add_items(found, members.any("input"))
    if not isinstance(members.rest.get("prompt"), dict):  # the object of a stored prompt is a parameter
        found_prompt = content_parts(members.any("prompt"))
        if found_prompt:
            found.add("user", found_prompt)
    image = members.members("image")  # of the simple API
    if image.rest:
        found.add("user", [media_part("Image", image), *rest_parts(image)])
    remains.parameters = members.parameters()
    remains.rest = members.rest_as_json()
    return remains, _continued(body)


def _continued(body: Mapping[str, object]) -> str:
    """Returns the id of the response or conversation that a request continues; "" if there is none."""
    conversation = body.get("conversation")
    named = conversation.get("id") if isinstance(conversation, dict) else conversation
    found = body.get("previous_response_id") or named
    return found if isinstance(found, str) else ""


def _add_form(found: TurnList, text: str, remains: BodyRemains) -> None:
    """Appends a turn with the files and texts (prompt, input, instructions) of a logged form to a conversation.

    All other fields of the form are appended to `remains.parameters`. A logged text that is no form becomes a turn,
    unchanged.
    """
    parts: list[Part] = []
    for line in _form_lines(text):
        if (field := _FORM_LINE.fullmatch(line)) is None:
            found.add("user", content_parts(text))
            remains.parameters = []
            return
        name, value = field["name"], field["value"]
        if upload := _UPLOAD.fullmatch(value):
            title = upload["type"].partition("/")[0].capitalize()
            parts.append(Part(PartKind.MEDIA, f"{upload['name']}\n{upload['type']}, {upload['size']}", title=title))
        elif name in ("prompt", "input", "instructions"):
            parts += content_parts(value)
        else:
            remains.parameters.append((name, value))
    if parts:
        found.add("user", parts)


def _form_lines(text: str) -> Iterator[str]:
    """Splits the logged text of a submitted form into its fields; yields each field as `name: value`.

    The text is written like the query of a URL, or each field begins a new line; a value may have several lines.
    """
    if _QUERY.match(text):
        yield from (f"{name}: {value}" for name, value in parse_qsl(text, keep_blank_values=True))
        return
    field = ""
    for number, line in enumerate(text.split("\n")):
        if _FORM_LINE.fullmatch(line) and number < MAX_FORM_LINES:
            if number:
                yield field
            field = line
        else:
            field += f"\n{line}" if number else line
    if field:
        yield field


def _read_response(found: TurnList, text: str, *, is_streamed: bool) -> BodyRemains:
    """Parses an answer's logged body, and appends the turns of the conversation in it to `found`.

    Returns what the body has besides, such as parameters, and how many of its bytes were logged and cut.
    """
    start, cut = split_cut(text)
    remains = BodyRemains(kept_bytes=len(start.encode(errors="replace")), cut_bytes=cut)
    if not text:
        return remains
    try:
        body = read_json(text)
    except NotJSONError:
        body = None
    if not isinstance(body, dict) or (is_streamed and not _ANSWERED & body.keys()):
        if _WHOLE_BINARY.fullmatch(text):
            media_type = described_medium(text)
            found.add("assistant", [Part(PartKind.MEDIA, media_type, title=media_type.partition("/")[0].capitalize())])
        elif text.lstrip().startswith("<"):
            found.add("error", [Part(PartKind.JSON, text, title="HTML")])  # of a server in between
        else:
            add_streamed(found, text)
        return remains
    members = Members(body)
    add_choices(found, members.objects("choices"))
    output = TurnList(calls=found.calls)
    add_items(output, members.any("output"), "assistant")
    add_items(output, _items_of_list(members), "assistant")
    found.turns += output.turns
    _add_other_answers(found, members)
    _add_ending(found, members)
    remains.parameters = members.parameters()
    remains.rest = members.rest_as_json()
    return remains


def _items_of_list(members: Members) -> list[dict[str, object]]:
    """Takes the items out of an answer that is a list of items of a response or conversation, and returns them.

    The result is an empty list for any other answer.
    """
    data = members.rest.get("data")
    is_list = isinstance(data, list) and any(isinstance(item, dict) and "type" in item for item in data)
    return members.objects("data") if is_list else []


def _add_other_answers(found: TurnList, members: Members) -> None:
    """Appends an answer's transcript of speech, and its generated pictures, as turns to the conversation `found`."""
    if isinstance(members.rest.get("text"), str):  # a response has an object here, its format
        found.add("assistant", content_parts(members.text("text"), markdown=True))
    pictures = []
    for picture in members.objects("data"):
        of_picture = Members(picture)
        revised = of_picture.text("revised_prompt")
        pictures += [media_part("Image", of_picture), *content_parts(revised), *rest_parts(of_picture)]
    if pictures:
        found.add("assistant", pictures)


def _add_ending(found: TurnList, members: Members) -> None:
    """Adds to the conversation `found` how an answer ended, unless it was completed without an error.

    An error becomes a turn. A status, with the reason why the answer is incomplete, becomes a badge of the last turn.
    """
    badges = []
    if (status := members.text("status")) and status != "completed":
        reason = members.members("incomplete_details").text("reason")
        badges.append(Badge(f"{status}: {reason}" if reason else status, is_warning=True))
    error = members.any("error")
    if error is not None:
        found.add("error", [Part(PartKind.JSON, as_json(error), title="error")])
    if badges:
        if not found.turns or found.turns[-1].role not in ("assistant", "error"):
            found.add("assistant", [])
        found.turns[-1].badges += badges


def _split(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """Splits a request's turns into earlier ones, which the page shows folded, and those of the last exchange.

    The last exchange begins with the last turn of the user, and has at most `MAX_TURNS_IN_SIGHT` turns.
    """
    last = max((number for number, turn in enumerate(turns) if turn.role == "user"), default=0)
    start = max(last, len(turns) - MAX_TURNS_IN_SIGHT)
    return ([], turns) if start < 2 else (turns[:start], turns[start:])


def _newest(turns: list[Turn], room: int) -> list[Turn]:
    """Returns the newest turns of a request: as many as have about `room` parts together, but at least one turn.

    If the oldest of the returned turns has more parts than there is room for, its last parts are removed.
    """
    for number, turn in enumerate(reversed(turns)):
        room = _limit_parts([turn], max(room, 1))
        if room <= 0:
            return turns[len(turns) - number - 1 :]
    return turns


def _limit_parts(turns: list[Turn], room: int) -> int:
    """Shortens the turns of a conversation, in place, to about `room` parts in total; returns the room that is left.

    Each turn, part and result of a tool call takes one unit of room. Every list of parts keeps at least its first part;
    a text at its end says how many were removed. The room that is left may be negative.
    """
    for turn in turns:
        room -= 1
        for holder in [turn.parts, *(part.results for part in turn.parts)]:
            if len(holder) > max(room, 1):
                left_out = len(holder) - max(room, 1)
                holder[max(room, 1) :] = [Part(PartKind.TEXT, title=f"{left_out:,} more parts are in the JSON")]
            room -= len(holder)
    return room


def _limit_markdown(turns: list[Turn]) -> None:
    """Turns off Markdown for the parts of a page behind the first `MAX_MARKDOWN_CHARACTERS` of Markdown, to save time.

    These parts are shown as plain text.
    """
    room = MAX_MARKDOWN_CHARACTERS
    for part in (part for turn in turns for part in turn.parts if part.is_markdown):
        room -= len(part.text)
        part.is_markdown = room >= 0
