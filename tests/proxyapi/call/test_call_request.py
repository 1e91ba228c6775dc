"""A call's request object has what Django's constructor would have given it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.call.call_request import META_NAMES, CallRequest
from tests.support.callers.asgi import Asgi

OTHERS = [b"x-security_key", b"x_forwarded_for", b"cookie", b"content_type", b"http-host", b"x-\xe9", b"path-info"]
names = st.one_of(st.sampled_from(sorted(META_NAMES)), st.sampled_from(OTHERS))
values = st.one_of(
    st.sampled_from([b"application/json", b"text/plain; charset=latin-1", b"a; charset=none", b"multipart/form-data"]),
    st.binary(max_size=20),
)
addresses = st.sampled_from([None, ("192.0.2.1", 80), ("", 0)])


async def nothing(*_: object) -> Any: ...


@given(
    headers=st.lists(st.tuples(names, values), max_size=8),
    query=st.sampled_from([b"", b"a=1&b=%20"]),
    method=st.sampled_from(["GET", "post"]),
    ends=st.tuples(addresses, addresses),
)
async def test_a_request_is_as_django_would_make_it(
    headers: list[tuple[bytes, bytes]], query: bytes, method: str, ends: tuple[object, object]
) -> None:
    scope = Asgi(method, "/v1/models").scope
    scope |= {"headers": headers, "query_string": query, "client": ends[0], "server": ends[1]}

    ours, theirs = vars(CallRequest(scope, nothing, nothing)), vars(ASGIRequest(scope, BytesIO()))

    assert theirs.keys() <= ours.keys()
    assert {name: ours[name] for name in theirs if name != "_stream"} == {
        name: value for name, value in theirs.items() if name != "_stream"
    }
    assert ours["_stream"].read() == theirs["_stream"].read()
