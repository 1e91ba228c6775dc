"""The check of owners where it meets odd requests: none costs the event loop, and none is let through unread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import pytest

from proxyapi.bodies.form_reader import MAX_KEPT_BYTES
from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import BadRequest, NotFound
from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys.callers import Caller
from proxyapi.keys.credentials import Credentials
from proxyapi.object_owners import owner_store, ownership_check
from proxyapi.object_owners.named_objects import NamedObjects
from proxyapi.object_owners.ownership_check import check, check_form
from proxyapi.routes import FAMILIES
from proxyapi.upstream.request import UpstreamRequest
from usage.kept_bodies.body_excerpts import PartExcerpt

ANN = Caller("ann")
BUILT_IN = Caller(SECURITY_KEY_NAME)
CHANGED = [
    path
    for family in FAMILIES
    if not family.is_administration and family.name != "models"
    for path, methods in family.paths.items()
    if "POST" in methods and "{id}" in path
]


async def test_each_refusal_of_a_path_is_an_error_of_its_own() -> None:
    """One error for all calls would keep each call's frames, with its body, in its traceback."""
    request = UpstreamRequest("GET", "/responses/a;b", Credentials("sk-x"), deadline=0.0)
    errors = []
    for _ in range(2):
        with pytest.raises(NotFound) as caught:
            await check(request, ANN)
        errors.append(caught.value)

    assert errors[0] is not errors[1]


async def test_the_fields_of_a_large_form_are_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred fields of empty arrays take seconds."""
    readers = set()

    class Watched(NamedObjects):
        def add_field(self, *arguments: Any, **options: Any) -> None:
            readers.add(threading.current_thread())
            super().add_field(*arguments, **options)

    monkeypatch.setattr(ownership_check, "NamedObjects", Watched)
    text = b"[" + b"[]," * (MAX_KEPT_BYTES // 3 - 1) + b"0]"
    parts = [PartExcerpt(name=b"x%d" % number, content=text, size=len(text)) for number in range(5)]

    assert await check_form(parts, ANN) == frozenset()
    assert len(readers) == 1
    assert threading.current_thread() not in readers


async def test_the_event_loop_has_its_turns_while_thousands_of_ids_are_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []
    seen: list[int] = []

    def recall(object_id: str, known: dict[str, str]) -> bool:
        looked_up.append(object_id)
        known[object_id] = "ann"
        return True

    async def watch() -> None:
        while True:
            seen.append(len(looked_up))
            await asyncio.sleep(0)

    monkeypatch.setattr(owner_store, "_read_owner", recall)
    ids = [f"file-{number}" for number in range(5000)]
    watcher = asyncio.create_task(watch())
    owners = await owner_store.owners_of(ids)
    watcher.cancel()

    assert owners == dict.fromkeys(ids, "ann")
    assert max(later - before for before, later in pairwise(seen)) <= owner_store.LINKS_PER_TURN


def test_a_field_whose_json_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(BadRequest, match="nested too deep"):
        NamedObjects().add_field("session", '{"file_id":"file-1","x":' + "[" * 60_000)


def test_a_field_of_json_with_a_control_character_is_read() -> None:
    """Some servers read it."""
    named = NamedObjects()
    named.add_field("session", '{"file_id": "file-1", "x": "\t"}')

    assert set(named.references) == {"file-1"}


async def test_what_the_built_in_key_names_is_never_taken_for_what_it_makes() -> None:
    """Also where something else in the request can be no id: an answer may quote a container of another key's."""
    body = {"previous_response_id": "\0", "tools": [{"type": "code_interpreter", "container": "cntr_ofA"}]}
    request = UpstreamRequest("POST", "/responses", Credentials("sk-x"), deadline=0.0, query="file_id=file_ofA")
    request.content, request.json = b"{}", JSONBody.written(b"{}", body)
    access = await check(request, Caller(SECURITY_KEY_NAME))
    assert access.made is not None
    assert access.named == {"cntr_ofA", "file_ofA"}

    parts = [
        PartExcerpt(name=b"file_ids[]", content=b"\0", size=1),
        PartExcerpt(name=b"container", content=b"cntr_ofA", size=8),
    ]
    assert await check_form(parts, Caller(SECURITY_KEY_NAME)) == {"cntr_ofA"}


@pytest.fixture
def everything_is_anns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def owners_of(needed: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
        return dict.fromkeys([*needed, *others], "ann")

    monkeypatch.setattr(ownership_check, "owners_of", owners_of)


@pytest.mark.usefixtures("everything_is_anns")
@pytest.mark.parametrize("caller", [ANN, BUILT_IN], ids=["its key", "the built-in key"])
@pytest.mark.parametrize("path", CHANGED)
async def test_an_id_in_a_path_is_never_taken_for_a_new_object(path: str, caller: Caller) -> None:
    """An answer repeats it, such as that about a file in a vector store, which may be another key's file."""
    written = path.replace("{id}", "obj_1", 1).replace("{id}", "obj_2", 1)
    access = await check(UpstreamRequest("POST", written, Credentials("sk-x"), deadline=0.0), caller)

    assert access.named >= {segment for segment in written.split("/") if segment.startswith("obj_")}


@pytest.mark.usefixtures("everything_is_anns")
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/batches/batch_1/cancel", {"object": "batch", "output_file_id": "obj_1", "error_file_id": "obj_1"}),
        ("/fine_tuning/jobs/ftjob_1/cancel", {"object": "fine_tuning.job", "result_files": ["obj_1"]}),
        (
            "/assistants/asst_1",
            {"object": "assistant", "tool_resources": {"file_search": {"vector_store_ids": ["obj_1"]}}},
        ),
        ("/agents/sessions/asess_1", {"object": "agent.session", "environment": {"id": "obj_1"}}),
    ],
)
async def test_what_belongs_to_another_keys_object_does_not_become_the_built_in_keys(
    path: str, answer: dict[str, object]
) -> None:
    """Its owner would no longer get the results of a batch that an administrator has cancelled."""
    for caller, made in ((BUILT_IN, []), (ANN, ["obj_1"])):
        access = await check(UpstreamRequest("POST", path, Credentials("sk-x"), deadline=0.0), caller)
        assert access.made is not None
        access.made.read(answer)
        assert access.made.take_new() == made
