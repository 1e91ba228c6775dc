"""Of each call of a session, only what no earlier call has said is new; what is shown on one page is bounded."""

from __future__ import annotations

import json
import random

import pytest

from usage.page_data.conversations.new_turns import (
    MAX_LINKS,
    MAX_PAGE_CHARACTERS,
    MAX_TURN_CHARACTERS,
    MAX_TURNS,
    NewTurns,
    NewTurnsReader,
)
from usage.page_data.conversations.reader import MAX_MARKDOWN_CHARACTERS, conversation_of
from usage.page_data.conversations.turns import Turn

Message = dict[str, object]
SYSTEM: Message = {"role": "system", "content": "Be brief."}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def chat(messages: list[Message], answer: str) -> tuple[str, str]:
    """Returns the bodies of a chat's request and of its answer."""
    return json.dumps({"messages": messages}), json.dumps({"choices": [{"message": assistant(answer)}]})


def read(*bodies: tuple[str, str], is_start: bool = True, route: str = "/v1/chat/completions") -> list[NewTurns]:
    """Reads the calls of a session, whose bodies are given, one after the other."""
    reader, found = NewTurnsReader(is_start=is_start), []
    for asked, answered in bodies:
        is_streamed = bool(answered) and not answered.startswith("{")
        conversation = conversation_of(route, asked, answered, is_streamed=is_streamed)
        assert conversation is not None
        found.append(reader.read(conversation))
    return found


def said(turns: list[Turn]) -> list[str]:
    return [part.text for turn in turns for part in turn.parts]


def test_it_works() -> None:
    first = [SYSTEM, user("Who?")]
    second = [*first, assistant("Ada."), user("When?")]
    third = [*second, assistant("1843."), user("Where?")]
    found = read(chat(first, "Ada."), chat(second, "1843."), chat(third, "London."))

    assert [(said(one.asked), said(one.answered)) for one in found] == [
        (["Be brief.", "Who?"], ["Ada."]), (["When?"], ["1843."]), (["Where?"], ["London."]),
    ]  # fmt: skip
    assert not any(one.is_shortened or one.was_cut for one in found)


def test_a_question_that_is_asked_again_is_new() -> None:
    chatted = [SYSTEM, user("Go on."), assistant("One."), user("Go on.")]
    alone = [SYSTEM, user("Ping")]
    found = read(chat(chatted[:2], "One."), chat(chatted, "Two."), chat(alone, "Pong"), chat(alone, "Pong"))

    assert [said(one.asked) for one in found] == [["Be brief.", "Go on."], ["Go on."], ["Ping"], ["Ping"]]
    assert [said(one.answered) for one in found] == [["One."], ["Two."], ["Pong"], ["Pong"]]


def test_calls_that_continue_a_response_repeat_nothing_but_instructions() -> None:
    def response(**more: object) -> tuple[str, str]:
        output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}]
        return json.dumps({"instructions": "Be brief.", **more}), json.dumps({"output": output})

    found = read(
        response(input="More?"),
        response(input="More?", previous_response_id="resp_1"),
        response(input=[user("More?"), user("Even more?")], previous_response_id="resp_2"),
        route="/v1/responses",
    )

    assert [said(one.asked) for one in found] == [["Be brief.", "More?"], ["More?"], ["More?", "Even more?"]]


def test_the_result_of_a_tool_is_new_and_its_call_stands_above_it() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"zone":"UTC"}'}}
    asked = [user("What time is it?")]
    again: list[Message] = [*asked, {"role": "assistant", "content": None, "tool_calls": [call]}]
    again.append({"role": "tool", "tool_call_id": "call_1", "content": "13:07"})
    third: list[Message] = [*again, assistant("Seven past one."), user("Thanks")]
    first, second, last = read(
        (json.dumps({"messages": asked}), '[choice 0: tool call now]\n{"zone":"UTC"}'),
        chat(again, "Seven past one."),
        chat(third, "Bye"),
    )

    assert [part.title for turn in first.answered for part in turn.parts] == ["now"]
    assert [(part.title, [one.text for one in part.results]) for turn in second.asked for part in turn.parts] == [
        ("now", ["13:07"])
    ]
    assert said(last.asked) == ["Thanks"]


def test_a_page_in_the_middle_of_a_session_begins_with_the_last_exchange() -> None:
    messages = [SYSTEM, user("Who?"), assistant("Ada."), user("When?")]
    later = [*messages, assistant("1843."), user("Where?")]
    found = read(chat(messages, "1843."), chat(later, "London."), is_start=False)

    assert [said(one.asked) for one in found] == [["When?"], ["Where?"]]


def test_nothing_new_is_left_out_without_a_remark() -> None:
    """Sessions of calls that repeat all that was said, or continue a stored response; from their start, or later on."""
    chance = random.Random(4)
    for _ in range(60):
        is_start, calls, spoken = chance.random() < 0.5, list[tuple[str, str]](), list[Message]()
        sent: list[list[Message]] = []  # by each call, without what is on an earlier page or in an earlier call
        for number in range(chance.choice((1, 2, 4))):
            texts = (f"{number}.{turn}" for turn in range(chance.choice((1, 2, 3, 12, 300))))
            new = [user(text) if chance.random() < 0.7 else assistant(text) for text in texts]
            more = {"previous_response_id": "resp_1"} if chance.random() < 0.5 else {}
            spoken += new
            calls.append((json.dumps({"input": new if more else spoken, **more}), '{"output": []}'))
            sent.append(new)
        for found, new in zip(read(*calls, is_start=is_start, route="/v1/responses"), sent, strict=True):
            assert found.is_shortened or {str(message["content"]) for message in new} <= {*said(found.asked)}


@pytest.mark.parametrize("is_start", [True, False])
@pytest.mark.parametrize("named", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}], ids=str)
def test_a_first_call_that_continues_a_response_has_only_new_turns(is_start: bool, named: dict[str, str]) -> None:
    turns = [user("One?"), assistant("Yes."), user("Two?")]
    [found] = read((json.dumps({"input": turns, **named}), ""), is_start=is_start, route="/v1/responses")

    assert said(found.asked) == ["One?", "Yes.", "Two?"]
    assert not found.is_shortened


def test_turns_that_were_not_read_beside_one_of_many_parts_are_left_out_with_a_remark() -> None:
    many: Message = {"role": "user", "content": [{"type": "text", "text": f"{number}"} for number in range(600)]}
    [found] = read(chat([user("First"), assistant("Second"), many], "Yes."))

    assert "First" not in said(found.asked)
    assert found.is_shortened


def test_what_was_cut_when_it_was_logged_is_no_new_message() -> None:
    text = json.dumps({"messages": [SYSTEM, user("x" * 100)]})
    cut = [f"{text[:-50]}… <{number} bytes cut>" for number in (50, 90)]
    first, second = read((cut[0], ""), (cut[1], ""))

    assert first.was_cut
    assert len(said(first.asked)) == 2
    assert said(second.asked) == []
    assert second.was_cut


@pytest.mark.parametrize("answer", ["a" * 50_000, "**a** " * 9000])
def test_the_text_of_a_page_is_bounded(answer: str) -> None:
    found = read(*(chat([user(f"{number} " + "q" * 50_000)], answer) for number in range(60)))
    turns = [turn for one in found for turn in [*one.asked, *one.answered]]
    texts = said(turns)

    assert all(turn.parts for turn in turns)  # one without would be shown as empty
    assert max(map(len, texts)) <= MAX_TURN_CHARACTERS + 1
    assert texts[0].endswith("…")
    assert all(one.is_shortened for one in found)
    assert MAX_PAGE_CHARACTERS <= sum(map(len, texts)) <= MAX_PAGE_CHARACTERS + len(texts)
    markdown = [part.text for turn in turns for part in turn.parts if part.is_markdown]
    assert 0 < sum(map(len, markdown)) <= MAX_MARKDOWN_CHARACTERS + len(texts)  # each has a "…"


def test_a_turn_without_room_is_left_out_and_one_without_words_is_not() -> None:
    long = "q" * MAX_TURN_CHARACTERS
    [silent] = read(chat([user("?")], ""))
    found = read(*(chat([user(f"{call} {turn} {long}") for turn in range(MAX_TURNS)], long) for call in range(8)))
    turns = [[*one.asked, *one.answered] for one in found]

    assert [turn.parts for turn in silent.answered] == [[]]
    assert sum(map(len, turns)) == MAX_PAGE_CHARACTERS / MAX_TURN_CHARACTERS
    assert all(turn.parts for shown in turns for turn in shown)
    assert [one.is_shortened for one in found] == [True] * 8


def test_turns_parts_results_and_links_are_bounded() -> None:
    citations = [{"type": "url_citation", "url_citation": {"url": f"https://a.example/{n}"}} for n in range(90)]
    results = [{"role": "tool", "tool_call_id": "c", "content": f"{number}"} for number in range(30)]
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}
    asked = json.dumps({"messages": [*(user(f"{number}") for number in range(20)), call, *results]})
    message = {"content": [{"type": "text", "text": f"{number}"} for number in range(30)], "annotations": citations}
    answered = json.dumps({"choices": [{"message": message} for _ in range(9)]})
    [found] = read((asked, answered))

    assert found.is_shortened
    assert len(found.asked) == len(found.answered) == MAX_TURNS
    assert len(found.asked[-1].parts[0].results) < 20
    assert max(len(turn.parts) for turn in found.answered) <= 20
    [linked] = read((json.dumps({"messages": [user("?")]}), json.dumps({"choices": [
        {"message": {"content": "!", "annotations": citations}}]})))  # fmt: skip
    assert len(linked.answered[0].parts[-1].links) == MAX_LINKS
    assert linked.is_shortened
