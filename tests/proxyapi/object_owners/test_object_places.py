"""Which ids a request names: every member of the SDK's parameters that looks like one is in a table, with a reason.

Over 300 lines, since it lists the members of every type of the SDK.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import openai.types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import is_typeddict

from proxyapi.bodies.json_members import read_object
from proxyapi.exceptions import BadRequest
from proxyapi.object_owners.named_objects import MOST_NAMED, NamedObjects
from proxyapi.object_owners.object_places import (
    ITEM_CONTENT,
    NO_OBJECTS,
    OWN_CONTENT,
    OWN_NAMES,
    OWN_SOURCES,
    REFERENCES,
    REFERENCES_OF,
    PlainString,
)
from usage.answers.created_ids import is_object_id

# The ids of the organization's administration are the upstream account's, and webhooks are not requests.
ELSEWHERE = ("openai.types.admin.", "openai.types.webhooks.")
ID_LIKE = re.compile(r"(^|_)ids?$")
# A name of which only objects made here are known: a subagent is one of the session in the path.
WEAK_REFERENCES = frozenset({"subagent_id"})
OF_FAMILIES = {name for names in REFERENCES_OF.values() for name in names}
A = "obj_ofA"
LONG_S = "\u017f"  # which Go folds to an s


def parameter_types() -> Iterator[tuple[str, type]]:
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        if not module.name.startswith(ELSEWHERE):
            for name, value in vars(importlib.import_module(module.name)).items():
                if is_typeddict(value) and value.__module__ == module.name:
                    yield name, value


def named_in(body: str) -> tuple[set[str], set[str]]:
    """The references and the mentions in a body, as `/v1` reads it."""
    named = NamedObjects()
    named.add_body(read_object(body))
    return set(named.references), named.mentions


def test_every_id_in_the_sdks_parameters_is_known() -> None:
    names = {member for _, type_ in parameter_types() for member in type_.__annotations__ if ID_LIKE.search(member)}
    known = {*REFERENCES, *NO_OBJECTS, *WEAK_REFERENCES, *OF_FAMILIES, "id"}

    assert len(names) > 30
    assert sorted(names - known) == []
    assert not (REFERENCES.keys() | OF_FAMILIES) & (NO_OBJECTS.keys() | WEAK_REFERENCES | OWN_CONTENT)
    assert not REFERENCES.keys() & OF_FAMILIES
    assert not (NO_OBJECTS.keys() | OWN_CONTENT | OWN_NAMES) & WEAK_REFERENCES


def test_every_input_item_of_the_sdk_that_is_its_id_alone_is_a_reference() -> None:
    module = importlib.import_module("openai.types.responses.response_input_item_param")
    kinds = {
        literal
        for value in vars(module).values()
        if is_typeddict(value) and "id" in value.__annotations__ and "type" in value.__annotations__
        for literal in re.findall(r"Literal\['(\w+)'\]", str(value.__annotations__["type"]))
    }
    assert {"item_reference", "reasoning", "image_generation_call", "local_shell_call"} <= kinds | set(ITEM_CONTENT)
    for kind in sorted(kinds | set(ITEM_CONTENT) - {""}):
        for status in ("", ',"status":"completed"'):
            item = f'{{"type":"{kind}","id":"{A}"{status}}}'
            assert named_in(f'{{"input":[{item}]}}')[0] == {A}, kind


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in REFERENCES_OF for name in REFERENCES_OF[family]]
)
def test_a_name_is_a_reference_in_its_family_and_a_mention_elsewhere(family: str, name: str) -> None:
    body = read_object(f'{{"x":[{{"{name.title()}":"{A}"}}]}}')
    for asked, references in ((family, {A}), ("responses", set())):
        named = NamedObjects(asked)
        named.add_body(body)
        named.add_query(f"{name}={A}", is_list=True)
        assert set(named.references) == references
        assert named.mentions == {A} - references


TEXT_PLACES = [name for name, place in REFERENCES.items() if place.text is PlainString.REFERENCE]


@pytest.mark.parametrize("name", TEXT_PLACES)
def test_a_place_is_found_however_it_is_written(name: str) -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in name)
    bodies = [
        f'{{"{name}":"{A}"}}',
        f'{{"{name}":["x_own","{A}"]}}',
        f'{{"{name}":{{"id":"{A}"}}}}',
        f'{{"{name}":{{"ID":"{A}","id":"x_own"}}}}',
        f'{{"{name}":"{A}","{name}":"x_own"}}',
        f'{{"{name}":"{A}","{name}":null}}',
        f'{{"{name}":{{"id":"{A}","id":5}}}}',
        f'{{"{escaped}":"{A}"}}',
        f'{{"{name.upper()}":"{A}"}}',
        f'{{"{name.title()}":"{A}"}}',
        f'{{"{name.replace("s", LONG_S)}":"{A}"}}',
        f'{{"tools":[{{"deep":{{"er":[[{{"{name}":"{A}"}}]]}}}}]}}',
        f'{{"x":{{"{name}":"{A}"}},"x":1}}',
        f'{{"tools":[{{"x":{{"{name}":"{A}"}},"x":1}}]}}',
        f'{{"input":[{{"type":"message","role":"user","content":[{{"{name}":"{A}"}}]}}]}}',
        f'{{"prompt":{{"id":"x_own","variables":{{"v":{{"{name}":"{A}"}}}}}}}}',
    ]
    for body in bodies:
        assert A in named_in(body)[0], body


@pytest.mark.parametrize(
    "name", [name for name, place in REFERENCES.items() if place.text is not PlainString.REFERENCE]
)
def test_an_object_in_a_place_of_words_is_found_and_the_words_are_not(name: str) -> None:
    assert named_in(f'{{"{name}":{{"id":"{A}"}}}}')[0] == {A}
    assert named_in(f'{{"{name}":[{{"id":"{A}"}}]}}')[0] == {A}
    assert named_in(f'{{"{name}":"{A}"}}')[0] == set()


@pytest.mark.parametrize(
    "item",
    [
        f'{{"id":"{A}"}}',
        f'{{"id":"{A}","type":null}}',
        f'{{"id":"{A}","type":"item_reference","content":"x"}}',
        f'{{"id":"{A}","type":"message","content":[]}}',
        f'{{"id":"{A}","foo":"bar"}}',
        f'{{"ID":"{A}","type":"item_reference"}}',
        f'{{"id":"x_own","id":"{A}","type":"message","role":"user","content":"hi"}}',
        f'{{"id":"{A}","type":"message","type":"item_reference","content":"hi"}}',
        f'{{"id":"{A}","type":"reasoning","summary":[{{"type":"summary_text","text":"x"}}]}}',
        f'{{"id":"{A}","type":"reasoning","summary":[],"encrypted_content":null}}',
        f'{{"id":"{A}","type":"image_generation_call","result":null,"status":"completed"}}',
        f'{{"id":"{A}","type":"unheard_of","status":"completed"}}',
    ],
)
@pytest.mark.parametrize("name", ["input", "items", "Input"])
def test_an_item_without_content_of_its_own_is_a_reference(name: str, item: str) -> None:
    assert A in named_in(f'{{"{name}":[{item}]}}')[0]
    assert A in named_in(f'{{"{name}":{item}}}')[0]


@pytest.mark.parametrize(
    "item",
    [
        f'{{"id":"{A}","type":"message","role":"assistant","content":[{{"type":"output_text","text":"hi"}}]}}',
        f'{{"id":"{A}","role":"user","content":"hi"}}',
        f'{{"id":"{A}","type":"message","role":"assistant","content":[]}}',
        f'{{"id":"{A}","type":"local_shell_call_output","output":""}}',
        f'{{"id":"{A}","type":"reasoning","summary":[],"encrypted_content":"gAAA"}}',
        f'{{"id":"{A}","type":"function_call","call_id":"call_1","name":"f","arguments":"{{}}"}}',
        f'{{"id":"{A}","type":"web_search_call","status":"completed","action":{{"type":"search","query":"x"}}}}',
        f'{{"id":"{A}","type":"unheard_of","text":"what it says"}}',
    ],
)
def test_an_item_with_its_content_only_mentions_its_id(item: str) -> None:
    assert named_in(f'{{"input":[{item}]}}') == (set(), {A})


@pytest.mark.parametrize(
    ("source", "references"),
    [
        ({"type": "file_content", "content": [{"item": {"source": {"type": "x", "id": "y"}, "text": "hi"}}]}, set()),
        ({"type": "file_id", "id": A}, {A}),
        ({"type": "responses", "model": "gpt-5"}, {"responses"}),
        ({"type": "stored_completions", "metadata": {"a": "b"}}, {"stored_completions"}),
        ({"type": "file_content", "Type": "new_kind"}, {"new_kind"}),
    ],
)
@pytest.mark.parametrize("name", ["data_source", "Data_Source"])
def test_data_of_the_whole_account_is_a_reference(name: str, source: dict[str, Any], references: set[str]) -> None:
    """Upstream would choose them by model or time, from the objects of all keys."""
    data = {"type": "responses", "source": source, "model": "gpt-5"}
    assert named_in(json.dumps({name: data}))[0] == references


@pytest.mark.parametrize("kind", [5, None, ["responses"], {"x": 1}, ""])
def test_data_of_an_unreadable_kind_is_refused(kind: object) -> None:
    with pytest.raises(BadRequest):
        named_in(json.dumps({"data_source": {"source": {"type": kind}}}))


def test_every_source_of_data_in_the_sdk_is_known() -> None:
    """One that has data or names it is the caller's; each other one reads what is in the account."""
    sources = [type_ for name, type_ in parameter_types() if re.search(r"(^|DataSource)Source[A-Z]\w+$", name)]
    kinds = {
        kind
        for source in sources
        for kind in re.findall(r"Literal\[[\"'](\w+)[\"']\]", str(source.__annotations__.get("type")))
    }
    assert {"file_content", "file_id", "responses"} <= kinds
    assert kinds - set(OWN_SOURCES) == {"responses", "stored_completions"}


def test_citations_of_an_earlier_answer_are_mentions() -> None:
    cited = [
        {"type": "file_citation", "file_id": "file_1"},
        {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"},
    ]
    parts = [{"type": "output_text", "text": "see", "annotations": cited}]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": parts}
    search = {"type": "file_search_call", "id": "fs_1", "queries": ["x"], "results": [{"file_id": "file_2"}]}
    code = {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "cntr_2", "outputs": []}

    assert named_in(json.dumps({"input": [message, search, code]})) == (
        set(), {"msg_1", "file_1", "cntr_1", "cfile_1", "fs_1", "file_2", "ci_1", "cntr_2"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "item",
    [
        {"id": A},
        {"id": A, "type": "item_reference"},
        {"id": A, "type": "message", "content": []},
        {"id": A, "type": "reasoning", "summary": []},
        {"id": A, "input": [{"id": A}]},
        {"id": A, "file_id": A},
        [{"id": A}],
    ],
)
@pytest.mark.parametrize("items", ["input", "items", "instructions"])
@pytest.mark.parametrize("above", ["results", "annotations"])
def test_items_in_an_earlier_answer_are_mentions(above: str, items: str, item: object) -> None:
    for value in (item, [item], [[item]]):
        answer = {"type": "file_search_call", "id": "fs_1", "queries": ["x"], above: [{items: value}]}
        assert named_in(json.dumps({"input": [answer]})) == (set(), {"fs_1", A}), value
        assert named_in(json.dumps({"input": [{**answer, above: {"deep": {items: value}}}]})) == (set(), {"fs_1", A})


@pytest.mark.parametrize("bad", ["\0", "x" * 513, ""])
def test_what_can_be_no_id_is_left_alone_in_an_earlier_answer(bad: str) -> None:
    assert named_in(json.dumps({"messages": [{"annotations": [{"items": [{"id": bad}]}]}]})) == (set(), set())


def test_what_the_caller_makes_up_names_nothing() -> None:
    schema = {"type": "object", "properties": {"file_id": {"type": "string", "id": A}}, "id": A}
    body = {
        "metadata": {"thread_id": A, "id": A},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "messages": [
            {"role": "assistant", "tool_calls": [{"id": A, "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": A, "content": "x"},
        ],
        "input": [{"type": "function_call_output", "call_id": A, "output": f'{{"file_id":"{A}"}}'}],
        "prompt": {"variables": {"file_id": A, "vector_store_ids": A}},
    }
    assert named_in(json.dumps(body)) == (set(), set())


@pytest.mark.parametrize("name", ["new_thing_id", "new_thing_ids", "id", "New_Thing_ID"])
def test_an_id_in_a_place_that_nobody_has_heard_of_is_a_mention(name: str) -> None:
    assert named_in(f'{{"a":[{{"b":{{"{name}":"{A}"}}}}]}}') == (set(), {A})


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800", "\n", "a\x7f", "x" * 513, "ü" * 257, ""])
def test_what_can_be_no_id_is_refused_in_a_place_of_one(bad: str) -> None:
    assert not is_object_id(bad)
    for body in ({"previous_response_id": bad}, {"tools": [{"vector_store_ids": [bad]}]}, {"input": [{"id": bad}]}):
        with pytest.raises(BadRequest):
            named_in(json.dumps(body))
    assert named_in(json.dumps({"something_id": bad})) == (set(), set())


def test_a_request_names_so_many_objects_and_no_more() -> None:
    ids = [f"file_{number}" for number in range(MOST_NAMED)]
    assert len(named_in(json.dumps({"file_ids": ids}))[0]) == MOST_NAMED
    with pytest.raises(BadRequest):
        named_in(json.dumps({"file_ids": [*ids, "one_more"]}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file_id", A), ("file_ids[]", A), ("file_ids[0]", A), ("file_ids", f'["{A}"]'), ("consent", A),
        ("image[file_id]", A), ("image[0][file_id]", A), ("video[id]", A), ("input_reference", f'{{"file_id":"{A}"}}'),
        ("tool_resources[file_search][vector_store_ids][]", A), ("tool.file_id", A), ("FILE_ID", A),
    ],
)  # fmt: skip
def test_the_fields_of_a_form_are_read_as_servers_read_them(field: str, value: str) -> None:
    named = NamedObjects()
    named.add_field(field, value)
    assert set(named.references) == {A}


@pytest.mark.parametrize("name", ["session", "Session", "session[prompt]", "characters", "characters[0]"])
def test_a_file_in_the_place_of_json_is_refused(name: str) -> None:
    """Its ids would not be read here, and perhaps upstream."""
    with pytest.raises(BadRequest, match="expected text, not a file"):
        NamedObjects().add_field(name, None)


def test_a_file_in_the_place_of_an_id_is_refused_and_elsewhere_it_is_a_file() -> None:
    named = NamedObjects()
    for name in ("file", "image[]", "audio_sample", "id"):
        named.add_field(name, None)
    assert not named
    for name in ("file_id", "consent"):
        with pytest.raises(BadRequest):
            named.add_field(name, None)


@pytest.mark.parametrize(
    "query", [f"thread_id={A}", f"a=b;thread_id={A}", f"%74hread_id={A}", f"thread_id[]={A}", "run_id=obj%5FofA"]
)
def test_a_query_is_read_as_servers_read_it(query: str) -> None:
    named = NamedObjects()
    named.add_query(query, is_list=False)
    assert set(named.references) == {A}


def test_a_cursor_names_an_object_where_a_list_is_of_objects() -> None:
    for is_list in (True, False):
        named = NamedObjects()
        named.add_query(f"limit=2&after={A}&order=asc", is_list=is_list)
        assert set(named.references) == ({A} if is_list else set())


names = st.sampled_from([*TEXT_PLACES, *OWN_NAMES, "content", "tools", "x", "", "ID", "annotations"])
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


@st.composite
def placed(draw: st.DrawFn) -> str:
    """A body with A's object in a place somewhere in it, however deep, doubled or not, between other things."""
    place = draw(st.sampled_from(TEXT_PLACES))
    spelled = draw(st.sampled_from([place, place.upper(), place.capitalize()]))
    form = draw(st.sampled_from(["%s", "[%s]", "[[1],[%s]]", '{"id":%s}']))
    inner = f'{{"{spelled}":{form % json.dumps(A)}}}'
    for _ in range(draw(st.integers(0, 6))):
        name, other = draw(st.sampled_from(["tools", "x", "input", "content", "messages", ""])), draw(leaves)
        beside = json.dumps(other)
        inner = draw(
            st.sampled_from([
                f'{{"{name}":{inner}}}',
                f'{{"{name}":[{beside},{inner}]}}',
                f'{{"{name}":{inner},"{name}":{beside}}}',
                f'{{"{name}":{beside},"y":{inner}}}',
            ])
        )  # fmt: skip
    return inner


@given(placed())
def test_no_nesting_hides_a_place(body: str) -> None:
    references, _ = named_in(body)
    assert A in references


@given(st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)))
def test_any_body_is_read_or_refused(value: Any) -> None:
    named = NamedObjects()
    try:
        named.add_body({"x": value})
    except BadRequest:
        return
    assert all(map(is_object_id, {*named.references, *named.mentions}))


def test_for_whom_may_name_everything_a_fault_hides_nothing() -> None:
    body = {
        "conversation": "\0",
        "previous_response_id": "\ud800",
        "file_ids": ["", A, 5],
        "tools": [{"type": "code_interpreter", "container": "cntr_ofA"}],
    }
    members = read_object(json.dumps(body))
    with pytest.raises(BadRequest):
        NamedObjects().add_body(members)
    named = NamedObjects(skips_faults=True)
    named.add_body(members)
    named.add_field("training_file", None)
    named.add_field("file_id", "[" * 100_000)
    named.add_query("after=%00&file_id=file_ofA", is_list=True)
    assert set(named.references) == {A, "cntr_ofA", "file_ofA"}

    many = NamedObjects(skips_faults=True)
    many.add_body({"file_ids": [f"file_{number}" for number in range(MOST_NAMED + 5)]})
    assert len(many.references) == MOST_NAMED + 5
