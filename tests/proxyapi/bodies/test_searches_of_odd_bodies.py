"""Whatever a body is like, the work of searching it grows with its size alone: the event loop does it for small bodies.

Work is counted in calls of functions, comparisons of texts among them, and not in time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.model_places import implied_by_tools, in_body
from proxyapi.limits.cost_ceiling import ceiling_of
from proxyapi.limits.output_limits import by_plain_name
from proxyapi.limits.usage_estimates import most_usage, usage_of_pictures
from proxyapi.object_owners.named_objects import NamedObjects
from proxyapi.routes import find_route

ROUTE, PICTURES = find_route("/responses"), find_route("/images/generations")
SEARCHES: dict[str, Callable[[JSONBody], object]] = {
    "models": lambda body: in_body(body.members),
    "implied models": lambda body: implied_by_tools(body.members),
    "objects": lambda body: NamedObjects("responses", skips_faults=True).add_body(body.members),
    "ceiling": lambda body: ceiling_of("POST", ROUTE, body),
    "estimate": lambda body: most_usage("POST", ROUTE, body, body.size),
    "pictures": lambda body: _usage_of_pictures(body),
}
MCP, NEW = '{"type":"mcp"}', '{"type":"new"}'
PROMPT, ITEM = '"prompt":{"id":"","x":"a"}', '{"id":"","x":"b"}'


def _repeat(item: str, number: int) -> str:
    return ",".join([item] * number)


def _nested(name: str, number: int) -> str:
    """Returns a member whose value has `number` objects, below a tenth as many lists that are inside each other."""
    depth = number // 10
    begin, end = f'[{{"{name}":' * depth, "}]" * depth
    return f'"{name}":{begin}[{_repeat("{}", number)}]{end}'


def _tools(number: int) -> str:
    return f'"tools":[{_repeat(MCP, number)},{_repeat(NEW, number)}]'


def _prompts(number: int) -> str:
    return f'{_repeat(PROMPT, number)},"input":[{_repeat(ITEM, number)}]'


def _pictures(number: int) -> str:
    return ",".join(f'"quality":"q{one}","size":"{one % 90 + 10}x{one % 89 + 10}"' for one in range(number))


def _usage_of_pictures(body: JSONBody) -> object:
    most = most_usage("POST", PICTURES, body, body.size)
    assert most is not None
    return usage_of_pictures(most, "local-image", by_plain_name(body.by_name))


# The members of a body of about so many values.
BODIES: dict[str, Callable[[int], str]] = {
    **{name: partial(_nested, name) for name in ("tools", "input", "models", "content", "prompt", "x")},
    "hosted and new tools": _tools,
    "many prompts": _prompts,
    "many qualities and sizes": _pictures,
}


class Text(str):
    """A text whose comparisons are calls of a Python function, so that they are counted."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True


def _count_comparisons(value: object) -> object:
    """Replaces the texts in a JSON value by those of `Text`."""
    if isinstance(value, dict):
        for name, one in value.items():
            value[name] = _count_comparisons(one)
    elif isinstance(value, list):
        value[:] = map(_count_comparisons, value)
    return Text(value) if isinstance(value, str) else value


def work_of(kind: str, members: str) -> int:
    body = JSONBody.parse(f'{{"model":"gpt-5",{members}}}'.encode())
    if kind != "objects":  # which takes no subclass of `str` for a text
        for member in body.members:
            _count_comparisons(member.value)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        SEARCHES[kind](body)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("kind", SEARCHES)
def test_twice_the_body_is_twice_the_work(kind: str, shape: str) -> None:
    members = BODIES[shape]
    work_of(kind, members(200))  # fills caches
    assert work_of(kind, members(400)) < 2.5 * work_of(kind, members(200)) + 100


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize("name", ["model", "models", "tools", "input", "items", "prompt", "data_source", "x"])
def test_a_body_may_be_as_deep_as_can_be_parsed(kind: str, is_list: bool, name: str) -> None:
    begin, end = (f'[{{"{name}":', "}]") if is_list else (f'{{"{name}":', "}")
    for depth in range(100, 2000, 50):
        try:
            body = JSONBody.parse(f'{{"{name}":{begin * depth}1{end * depth}}}'.encode())
        except RecursionError:
            break
        SEARCHES[kind](body)
