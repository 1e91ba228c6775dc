"""The rules of ARCHITECTURE.md that a reader cannot see break: who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {"usage": {"proxyapi", "chatproxy"}, "proxyapi": {"chatproxy"}}
UPSTREAM_ONLY = {"openai"}
TRANSPORT_ONLY = {"aiohappyeyeballs"}


def imports(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not FORBIDDEN[package] & set(imports(path)), path


def test_only_upstream_imports_the_sdk_and_only_transport_its_sockets() -> None:
    for package in ("chatproxy", "proxyapi", "usage"):
        for path in (ROOT / package).rglob("*.py"):
            found = set(imports(path))
            assert not UPSTREAM_ONLY & found or path.name == "upstream.py", path
            assert not TRANSPORT_ONLY & found or path.name == "transport.py", path
