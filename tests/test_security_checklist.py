"""SECURITY.md keeps its promises: each line of its checklist names a test, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
CHECKLIST, HOLES = (
    TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0] for title in ("Checklist", "Holes of other gateways")
)
LINES = [line for line in CHECKLIST.splitlines() if line.startswith("* ")]
ROWS = [line for line in HOLES.splitlines() if line.startswith("| ") and not line.startswith("| published")]


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions(path)


@pytest.mark.parametrize("line", [*LINES, *ROWS])
def test_a_promise_names_its_test(line: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py::\w+`", line)


def test_every_part_has_promises() -> None:
    assert CHECKLIST.count("\n### ") == 10
    assert len(LINES) > 50
    assert len(ROWS) > 15
