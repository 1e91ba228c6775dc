"""The conversation in a call's logged bodies: who said what, with which tools, pictures and sources."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.ledger.logged_conversations import (
    ANSWERED,
    ASKED,
    QUESTION,
    RESPONSE,
    RESPONSE_ASKED,
    SAID,
    STREAMED,
)
from usage.page_data.conversations.reader import MAX_MARKDOWN_CHARACTERS, MAX_PARTS, conversation_of
from usage.page_data.conversations.turns import Conversation, Part, PartKind, Turn

CHAT = "/v1/chat/completions"


def read(request: object, response: object = "", route: str = CHAT, *, is_streamed: bool = False) -> Conversation:
    """Reads the conversation of a call whose bodies are given as JSON values, or as texts."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in (request, response)]
    found = conversation_of(route, *texts, is_streamed=is_streamed)
    assert found is not None
    return found


def all_parts(turns: list[Turn]) -> Iterator[Part]:
    for turn in turns:
        for part in turn.parts:
            yield part
            yield from part.results


def seen(turns: list[Turn]) -> list[tuple[str, str, str]]:
    """Returns role, kind and text of each part that is not a result."""
    return [(turn.role, part.kind, part.text) for turn in turns for part in turn.parts]


def test_a_chat_with_tools_and_pictures() -> None:
    found = read(ASKED, ANSWERED)

    assert [turn.role for turn in found.earlier] == ["system", "user", "assistant"]
    question, calls = found.asked
    assert question.name == "ada"
    assert [(part.kind, part.title, part.text) for part in question.parts] == [
        ("text", "", QUESTION),
        ("media", "Image", "image/png, 34,560 bytes\ndetail low"),
        ("media", "Audio", "audio/wav, 9,120 bytes\nformat wav"),
    ]
    assert [(part.title, part.text, [one.text for one in part.results]) for part in calls.parts] == [
        ("get_weather", '{\n  "city": "Paris"\n}', ["sunny, 20 degrees"]),
        ("get_weather", '{\n  "city": "Nice"\n}', ['{\n  "celsius": 26\n}']),
    ]
    [answer] = found.answered
    assert [(part.kind, part.text) for part in answer.parts[:2]] == [
        ("reasoning", "The user asks for the weather."),
        ("text", SAID),
    ]
    assert [(link.text, link.url) for link in answer.parts[2].links] == [
        ("Forecast for Paris", "https://weather.example/paris")
    ]
    assert [(badge.text, badge.is_warning) for badge in answer.badges] == [("length", True)]
    assert ("temperature", "0.2") in found.request.parameters
    assert '"get_weather"' in found.request.rest


def test_what_users_write_stays_as_written_and_answers_are_markdown() -> None:
    found = read(ASKED, ANSWERED)
    by_role = {turn.role: turn.parts[0].is_markdown for turn in (*found.earlier, *found.asked[:1])}

    assert by_role == {"system": True, "user": False, "assistant": True}
    assert found.answered[0].parts[1].is_markdown


def test_a_response_with_searches_code_and_a_picture() -> None:
    found = read(RESPONSE_ASKED, RESPONSE, "/v1/responses")

    assert found.continues == "resp_before"
    assert found.earlier == []
    system, question, call = found.asked
    assert (system.role, system.parts[0].text) == ("system", "Cite your sources.")
    assert [part.text for part in question.parts] == ["What is new?", "plan.pdf\napplication/pdf, 1,234 bytes"]
    assert [one.text for one in call.parts[0].results] == ["three news"]
    parts = [part for turn in found.answered for part in turn.parts]
    assert [part.kind for part in parts] == [
        "reasoning", "search", "search", "tool_call", "json", "media", "text", "text", "sources", "refusal",
    ]  # fmt: skip
    assert [part.text for part in parts[:4]] == ["I look it up first.", "news of today", "the plan", "print(6 * 7)"]
    assert [link.url for link in parts[1].links] == ["https://news.example/a"]
    assert [(one.title, one.text) for one in parts[2].results if one.kind is PartKind.TEXT] == [
        ("plan.pdf", "We plan to plan.")
    ]
    assert [one.text for one in parts[3].results] == ["42"]
    assert [(link.text, link.url) for link in parts[8].links] == [
        ("News", "https://news.example/a"), ("Trap javascript:alert(1)", ""), ("plan.pdf file_1", "")
    ]  # fmt: skip
    badges = [badge.text for turn in found.answered for badge in turn.badges]
    assert badges == ["refused", "incomplete: max_output_tokens"]


def test_a_streamed_answer_has_its_parts_again() -> None:
    found = read({"input": "hi"}, STREAMED, "/openai2", is_streamed=True)

    assert seen(found.answered) == [
        ("assistant", "reasoning", "Let me think."),
        ("assistant", "tool_call", '{\n  "city": "Oslo"\n}'),
        ("assistant", "text", "It rains.\n\nIt **pours**."),
    ]
    choices = read({}, "[choice 0: text]\nyes\n\n[choice 1: refusal]\nno", is_streamed=True).answered
    assert [[badge.text for badge in turn.badges] for turn in choices] == [["choice 0"], ["choice 1", "refused"]]


@pytest.mark.parametrize("text", ["42", '{"city": "Paris"}', "[text] is no head", "plain"])
def test_a_streamed_text_that_looks_like_json_is_a_text(text: str) -> None:
    assert seen(read({}, text, is_streamed=True).answered) == [("assistant", "text", text)]


@pytest.mark.parametrize(
    ("route", "request_body", "response", "asked", "answered"),
    [
        ("/chatgpt", {"prompt": "Hi", "systemMessage": "Rhyme."}, {"role": "assistant", "text": "Ahoy", "detail": {}},
         [("system", "text", "Rhyme."), ("user", "text", "Hi")], [("assistant", "text", "Ahoy")]),
        ("/openai", {"image": {"base64": "<base64 image/gif, 9 bytes>"}, "messages": []}, "",
         [("user", "media", "image/gif, 9 bytes")], []),
        ("/openai/audio/transcriptions", "model: whisper-1\nfile: <a.mp3, audio/mpeg, 2,003 bytes>\nprompt: two\nlines",
         {"text": "Hello there"},
         [("user", "media", "a.mp3\naudio/mpeg, 2,003 bytes"), ("user", "text", "two\nlines")],
         [("assistant", "text", "Hello there")]),
        ("/v1/audio/transcriptions", "file: <a.mp3, audio/mpeg, 9 bytes>", "1\n00:00 --> 00:01\n* hi",
         [("user", "media", "a.mp3\naudio/mpeg, 9 bytes")], [("assistant", "text", "1\n00:00 --> 00:01\n* hi")]),
        ("/v1/audio/speech", {"input": "Say it", "voice": "alloy"}, "<audio/mpeg, 1,234 bytes>",
         [("user", "text", "Say it")], [("assistant", "media", "audio/mpeg, 1,234 bytes")]),
        ("/v1/images/generations", {"prompt": "A cat"}, {"data": [{"b64_json": "<base64 image/png, 9 bytes>",
                                                                   "revised_prompt": "A small cat"}]},
         [("user", "text", "A cat")],
         [("assistant", "media", "image/png, 9 bytes"), ("assistant", "text", "A small cat")]),
        ("/v1/completions", {"prompt": "Once"}, {"choices": [{"text": " upon", "finish_reason": "stop"}]},
         [("user", "text", "Once")], [("assistant", "text", " upon")]),
        ("/v1/responses/{id}/input_items", "", {"object": "list", "data": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "first"}]}]},
         [], [("user", "text", "first")]),
        (CHAT, {"messages": [{"role": "user", "content": "x"}]}, "<html>502 Bad Gateway</html>",
         [("user", "text", "x")], [("error", "json", "<html>502 Bad Gateway</html>")]),
        (CHAT, {"messages": [
            {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "done"}]}, "",
         [("assistant", "tool_call", "{}")], []),
    ],
)  # fmt: skip
def test_every_route_with_words_has_a_conversation(
    route: str,
    request_body: object,
    response: object,
    asked: list[tuple[str, str, str]],
    answered: list[tuple[str, str, str]],
) -> None:
    found = read(request_body, response, route)

    assert seen(found.earlier + found.asked) == asked
    assert seen(found.answered) == answered


@pytest.mark.parametrize("route", ["/v1/embeddings", "/embeddings", "/v1/moderations", "/v1/files", "/v1/models/{id}"])
def test_other_routes_have_none(route: str) -> None:
    assert conversation_of(route, '{"input": "x"}', "{}", is_streamed=False) is None


def test_a_cut_body_shows_all_that_is_there_and_where_it_ends() -> None:
    text = json.dumps({"messages": [{"role": "user", "content": "one"}, {"role": "user", "content": "two" * 50}]})
    found = read(f"{text[:90]}… <41,600 bytes cut>", f"{'answer ' * 9}… <7 bytes cut>", is_streamed=True)

    assert [part.text[:3] for part in all_parts(found.earlier + found.asked)] == ["one", "two"]
    assert found.asked[-1].parts[0].text.endswith("twotw… <41,600 bytes cut>")
    assert (found.request.kept_bytes, found.request.whole_bytes) == (90, 41_690)
    assert (found.response.kept_bytes, found.response.cut_bytes) == (63, 7)


def test_a_long_conversation_shows_its_end() -> None:
    found = read({"messages": [{"role": "user", "content": str(n)} for n in range(3000)]}, {"choices": []})

    assert found.left_out + len(found.earlier) + len(found.asked) == 3000
    assert found.asked[-1].parts[0].text == "2999"
    assert len(list(all_parts(found.earlier + found.asked))) <= MAX_PARTS


def test_one_message_of_many_parts_is_bounded() -> None:
    found = read({"messages": [{"role": "user", "content": ["x"] * 30_000}]})

    assert len(found.asked[0].parts) <= MAX_PARTS + 1
    assert "more parts are in the JSON" in found.asked[0].parts[-1].title


def test_the_newest_markdown_is_drawn_within_a_bound() -> None:
    long = "word " * (MAX_MARKDOWN_CHARACTERS // 5 - 10)
    found = read({"messages": [{"role": "assistant", "content": long}]}, {"choices": [{"message": {"content": long}}]})

    assert found.answered[0].parts[0].is_markdown
    assert not found.asked[0].parts[0].is_markdown
