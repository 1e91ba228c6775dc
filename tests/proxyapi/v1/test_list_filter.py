"""A list shows a key its own objects; a list that cannot be filtered is 502, whatever is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx2
import pytest

from proxyapi.exceptions import UnreadableList
from proxyapi.v1.list_filter import ListPage
from tests.support.callers.budgeted_keys import make_key
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

HERS, HIS = "obj_hers", "obj_his"
LISTS = (
    "/v1/responses", "/v1/conversations", "/v1/chat/completions", "/v1/files", "/v1/vector_stores", "/v1/batches",
    "/v1/uploads", "/v1/fine_tuning/jobs", "/v1/assistants", "/v1/threads", "/v1/audio/voices", "/v1/embeddings",
    "/v1/audio/voice_consents", "/v1/images", "/v1/moderations", "/v1/responses/", "/v1/%72esponses", "/v1/audio",
)  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with run_gateway(upstream.base_url, gateway_database, tmp_path_factory.mktemp("lists"), V1_ROUTES="all") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def bob(server: Gateway, upstream: FixedUpstream) -> Iterator[httpx2.Client]:
    """Bob has made `HIS`, and somebody else `HERS`."""
    for name, object_id in (("lists alice", HERS), ("lists bob", HIS)):
        key = make_key(server, f"{name} {uuid4()}")
        headers = {"authorization": f"Bearer {key}"}
        upstream.body = json.dumps({"id": object_id, "object": "vector_store"}).encode()
        httpx2.post(f"{server.url}/v1/vector_stores", json={}, headers=headers, timeout=PATIENCE).raise_for_status()
    with httpx2.Client(base_url=server.url, headers=headers, timeout=PATIENCE) as http:
        yield http


@pytest.fixture(autouse=True)
def _usual(upstream: FixedUpstream) -> Iterator[None]:
    yield
    upstream.reset()


def listed(*items: str, rest: str = '"has_more": false') -> bytes:
    return f'{{"object": "list", "data": [{", ".join(items)}], {rest}}}'.encode()


HER_ITEM, HIS_ITEM = f'{{"id": "{HERS}", "text": "secret"}}', f'{{"id":"{HIS}", "text": "his  own", "n": 1.50}}'


@pytest.mark.parametrize("path", LISTS)
def test_every_list_has_what_is_the_keys_own_in_its_own_bytes(
    path: str, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    ends = f'"first_id": "{HERS}", "last_id" : "{HERS}",\n "has_more": false'
    upstream.body = listed(HER_ITEM, HIS_ITEM, HER_ITEM, rest=ends)
    answer = bob.get(path)

    assert answer.status_code == 200, answer.text
    assert answer.text == (
        f'{{"object": "list", "data": [{HIS_ITEM}], "first_id": "{HIS}", "last_id" : "{HIS}",\n "has_more": false}}'
    )


@pytest.mark.parametrize(
    "items",
    [
        ['{"id": "\\ud800"}', '{"id": "a\\u0000b"}', '{"id": ""}', f'{{"id": "{HERS} "}}'],
        ['{"id": "never_seen"}', '{"id": "' + "x" * 2000 + '"}'],
    ],
)
def test_items_that_nobody_has_made_are_nobodys(items: list[str], bob: httpx2.Client, upstream: FixedUpstream) -> None:
    upstream.body = listed(*items, HIS_ITEM)
    assert bob.get("/v1/files").content == listed(HIS_ITEM)


def test_a_lone_surrogate_in_an_item_is_read_over(bob: httpx2.Client, upstream: FixedUpstream) -> None:
    his, hers = f'{{"id": "{HIS}", "text": "\\ud800"}}', f'{{"id": "{HERS}", "text": "secret \\udc00"}}'
    upstream.body = listed(hers, his)
    assert bob.get("/v1/chat/completions").content == listed(his)
    upstream.body = listed(hers, his).replace(b"\\ud800", b"\xff\xfe")  # bytes that are no UTF-8
    assert bob.get("/v1/chat/completions").content == listed(his).replace(b"\\ud800", b"\xff\xfe")


def test_nothing_for_the_key_is_an_empty_list_that_ends(bob: httpx2.Client, upstream: FixedUpstream) -> None:
    ends = '"first_id": "{0}", "last_id": "{0}", "has_more": {1}'
    upstream.body = listed(HER_ITEM, rest=ends.format(HERS, "true"))
    answer = bob.get("/v1/chat/completions")
    assert (answer.status_code, HERS in answer.text) == (200, False)
    assert answer.json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


UNREADABLE: dict[str, bytes] = {
    "NaN": listed(HER_ITEM, '{"id": "x", "n": NaN}'),
    "NaN beside": listed(HER_ITEM, rest='"n": NaN'),
    "Infinity": listed(HER_ITEM, '{"id": "x", "n": -Infinity}'),
    "deep": listed(HER_ITEM, '{"id": "x", "n": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "no id": listed(HER_ITEM, '{"object": "x"}'),
    "an id that is no text": listed(HER_ITEM, '{"id": 5}'),
    "no id but ID": listed(HER_ITEM.replace('"id"', '"ID"')),
    "two ids": listed(f'{{"id": "{HIS}", "id": "{HERS}"}}'),
    "two spellings": listed(f'{{"id": "{HIS}", "Id": "{HERS}"}}'),
    "an item that is none": listed(HER_ITEM, '"secret"'),
    "null": listed("null"),
    "no data": b'{"object": "list", "items": [%s]}' % HER_ITEM.encode(),
    "two data": listed(HIS_ITEM, rest=f'"data": [{HER_ITEM}]'),
    "another Data": listed(HIS_ITEM, rest=f'"Data": [{HER_ITEM}]'),
    "more beside": listed(HIS_ITEM, rest=f'"items": [{HER_ITEM}]'),
    "an object beside": listed(HIS_ITEM, rest=f'"first": {HER_ITEM}'),
    "data is an object": b'{"data": %s}' % HER_ITEM.encode(),
    "data is null": b'{"data": null}',
    "an array": b"[%s]" % HER_ITEM.encode(),
    "one object": HER_ITEM.encode(),
    "text": b"secret",
    "nothing": b"",
    "cut": listed(HER_ITEM)[:-20],
    "more behind": listed(HIS_ITEM) + HER_ITEM.encode(),
    "a mark in front": b"\xef\xbb\xbf" + listed(HER_ITEM),
    "UTF-16": listed(HER_ITEM).decode().encode("utf-16"),
    "too many names": listed(HER_ITEM, rest=",".join(f'"n{number}": 1' for number in range(10_001))),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_a_list_that_cannot_be_read_is_not_shown(fault: str, bob: httpx2.Client, upstream: FixedUpstream) -> None:
    upstream.body = UNREADABLE[fault]
    for path in ("/v1/chat/completions", "/v1/files"):
        answer = bob.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "unreadable_list")
        assert "secret" not in answer.text
        assert HERS not in answer.text


@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (200, "application/problem+json"), (200, "text/plain"), (200, "text/event-stream"), (200, "application/xml"),
        (200, "application/octet-stream"), (200, "application/x-ndjson"), (206, "application/json"),
        (201, "application/json"),
    ],
)  # fmt: skip
def test_another_kind_of_answer_is_no_list(
    status: int, content_type: str, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    upstream.status, upstream.content_type, upstream.body = status, content_type, listed(HER_ITEM)
    answer = bob.get("/v1/files")
    assert (answer.status_code, "secret" in answer.text) == (502, False)


def test_the_row_says_that_the_list_was_refused(server: Gateway, bob: httpx2.Client, upstream: FixedUpstream) -> None:
    upstream.body = b"no list"
    row = server.row(bob.get("/v1/files"))
    assert (row["status"], row["outcome"], row["error_code"]) == (502, "upstream_error", "unreadable_list")


def test_errors_and_own_sub_lists_pass_as_they_are(bob: httpx2.Client, upstream: FixedUpstream) -> None:
    upstream.body = listed(HER_ITEM, '{"n": NaN}')
    assert bob.get(f"/v1/vector_stores/{HIS}/files").content == upstream.body
    upstream.status = 429
    assert bob.get("/v1/vector_stores").content == upstream.body


def test_the_built_in_key_sees_every_list_as_it_is(server: Gateway, upstream: FixedUpstream) -> None:
    upstream.body = listed(HER_ITEM, '{"n": NaN}')
    answer = httpx2.get(f"{server.url}/v1/files", headers={"authorization": f"Bearer {SECURITY_KEY}"}, timeout=PATIENCE)
    assert answer.content == upstream.body


def test_the_list_of_models_is_filtered_alike(server: Gateway, upstream: FixedUpstream) -> None:
    key = server.make_key("lists models", "--model", "gpt-4o*")
    gpt, other = '{"id": "gpt-4o-mini", "object": "model"}', '{"id": "o3", "object": "model"}'
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE) as http:
        upstream.body = listed(other, gpt)
        assert http.get("/v1/models").content == listed(gpt)
        for body in (listed(other, '{"n": 1}'), listed(other, '{"id": "x", "n": NaN}'), b"[]"):
            upstream.body = body
            assert http.get("/v1/models").status_code == 502


@pytest.mark.parametrize("space", ["", " ", "\n\t\r "])
def test_a_page_is_cut_whatever_its_space(space: str) -> None:
    text = '{"data":[{"id":"a"},{"id":"b"},{"id":"c"}],"last_id":"c"}'
    body = "".join(space + mark + space if mark in "{}[],:" else mark for mark in text).encode()
    page = ListPage(body, "application/json; charset=utf-8")

    assert [item[0] for item in page.items] == ["a", "b", "c"]
    assert page.with_items(page.items) == body
    without_c = page.with_items(page.kept(lambda one: one != "c"))
    assert json.loads(without_c) == {"data": [{"id": "a"}, {"id": "b"}], "last_id": "b"}
    assert json.loads(page.with_items(page.kept(lambda one: one == "b"))) == {"data": [{"id": "b"}], "last_id": "b"}


def test_an_empty_page_is_a_page() -> None:
    assert ListPage(b'{"data": [ ]}', "").with_items([]) == b'{"data": [ ]}'
    with pytest.raises(UnreadableList):
        ListPage(b"{}", "")


@pytest.mark.parametrize(
    "data",
    ['[{"id":"a"} {"id":"b"}]', '[{"id":"a"},]', '[,{"id":"a"}]', '[{"id":"a"}', '[{"id":"a"}}', "[", '"[]"', "[]]"],
)
def test_an_array_that_is_not_json_is_refused(data: str) -> None:
    with pytest.raises(UnreadableList):
        ListPage(f'{{"data": {data}}}'.encode(), "")


@pytest.mark.parametrize("status", [302, 404, 429, 500])
def test_an_error_in_place_of_a_later_page_is_no_end_of_the_list(
    bob: httpx2.Client, server: Gateway, upstream: FixedUpstream, status: int
) -> None:
    """The gateway asks for that page, since the first has nothing for the caller; who gets the error can ask again."""
    refusal = b'{"error": {"message": "Slow down", "type": "requests", "param": null, "code": "later"}}'
    upstream.queued = [(200, listed(json.dumps({"id": HERS}), rest='"has_more": true')), (status, refusal)]
    answer = bob.get("/v1/vector_stores")

    assert (answer.status_code, answer.content) == (status, refusal)
    row = server.row(answer)
    assert (row["status"], row["outcome"], row["error_code"]) == (status, "upstream_error", "later")
