"""Finds the tests that need a server, a database or another process.

`make check` runs only the other tests, which are quick and start nothing. No test is marked by hand. A test needs a
server if it uses something that starts one: a fixture, its own code, or the code of a fixture or test function that it
calls.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, MethodType

import pytest

from chatproxy.postgres.bundled import BundledPostgres
from tests.simulator.server import run_simulator

MARK = "needs_server"
FIXTURES = {"db", "transactional_db", "_postgres", "_simulator"}
# Identities, not names: whoever imports one of them under another name is found, too.
STARTERS = {id(starter) for starter in (subprocess, BundledPostgres, run_simulator)}


def mark_tests_that_need_a_server(items: list[pytest.Item]) -> None:
    """Adds the pytest mark `needs_server` to those tests that need a server, a database or another process."""
    for item in items:
        if isinstance(item, pytest.Function) and _needs_server(item):
            item.add_marker(MARK)


def _needs_server(test: pytest.Function) -> bool:
    if not FIXTURES.isdisjoint(test.fixturenames) or test.get_closest_marker("django_db"):
        return True
    fixtures = [last for name in test.fixturenames for last in test._fixtureinfo.name2fixturedefs.get(name, ())[-1:]]
    return any(_starts_something(function) for function in [test.function, *(fixture.func for fixture in fixtures)])


@cache
def _starts_something(called: object) -> bool:
    """Returns whether a test function or class starts a server or process: whether it uses one of `STARTERS`.

    The objects that its code names are searched, too.
    """
    seen: set[int] = set()
    found = [called]
    while found:
        used = found.pop()
        if id(used) in STARTERS:
            return True
        if id(used) not in seen and str(getattr(used, "__module__", "")).startswith("tests."):
            seen.add(id(used))
            found.extend(_used_by(used))
    return False


def _used_by(called: object) -> Iterator[object]:
    """Yields the objects that a function or a class uses.

    For a function, these are the function that it decorates and the globals that it names; for a class, its members.
    """
    if isinstance(called, type):
        yield from vars(called).values()
    elif isinstance(called, MethodType):
        yield called.__func__
    elif isinstance(called, FunctionType):
        yield getattr(called, "__wrapped__", None)
        names = {name for code in _code_of(called.__code__) for name in code.co_names}
        yield from (called.__globals__[name] for name in names & called.__globals__.keys())


def _code_of(code: CodeType) -> Iterator[CodeType]:
    """Yields the code object of a function, and those of all functions inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_of(constant)
