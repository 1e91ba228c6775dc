"""Each command of `manage.py` that a page, a message or a template quotes can be run as it is quoted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import load_command_class

from chatproxy.configuration.setting_reader import BASE_DIR
from tests.support.documentation import DOCUMENTS

COMMANDS = {
    "backup": "chatproxy",
    "doctor": "chatproxy",
    "import": "proxyapi",
    "keys": "proxyapi",
    "teams": "proxyapi",
    "ledger": "usage",
    "prices": "usage",
    "restore": "chatproxy",
    "serve": "chatproxy",
    "ship": "chatproxy",
}
DJANGO = {"changepassword", "check"}
PLACES = {"DAY": "2026-11-01", "DAYS": "7"}  # placeholders whose options must be of a type
ACTIONS = "ledger|keys|teams|prices"
# A command with `manage.py`, up to what ends it in a text; or, in code quotes, only its name and action.
QUOTED = re.compile(rf"manage\.py ([a-z]+)([^`\n<;,]*)|`((?:{ACTIONS})) ([a-z][^`\n]*)`")
DOCSTRING_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def messages(path: Path) -> Iterator[str]:
    """Yields the texts in a module's code, without its docstrings; an inserted value becomes `DAY`."""
    text = path.read_text()
    may_quote = re.search(rf"manage\.py|`(?:{ACTIONS})", text)
    nodes = list(ast.walk(ast.parse(text))) if may_quote else []
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, DOCSTRING_OWNERS) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "DAY" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def sources() -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each place that may quote a command."""
    yield from ((name, text) for name, text in DOCUMENTS.items() if name != "CHANGELOG.md")  # which only names them
    for package in ("chatproxy", "proxyapi", "usage"):
        for path in sorted((BASE_DIR / package).rglob("*.py")):
            yield str(path.relative_to(BASE_DIR)), "\n".join(messages(path))
    for path in sorted((BASE_DIR / "templates").rglob("*.html")):
        yield str(path.relative_to(BASE_DIR)), re.sub(r"{{.*?}}", "DAY", path.read_text())


def quoted() -> Iterator[tuple[str, str, str]]:
    """Yields for each quoted command its place, its name and its arguments."""
    for place, text in sources():
        for command, arguments, name, rest in QUOTED.findall(text):
            yield place, command or name, arguments or rest


FOUND = sorted(set(quoted()))


def test_commands_are_found() -> None:
    assert {"ledger", "keys", "doctor", "backup"} <= {command for _, command, _ in FOUND}
    assert any(place.endswith(".py") for place, _, _ in FOUND)
    assert any(place.endswith(".html") for place, _, _ in FOUND)


@pytest.mark.parametrize(("place", "command", "arguments"), FOUND)
def test_a_quoted_command_can_be_run(place: str, command: str, arguments: str) -> None:
    """Its options are known, and those that it needs are there. A name without any argument only names a command."""
    if command in DJANGO:
        return
    words = shlex.split(re.split(r" [|>] |[.:)](?: |$)", arguments)[0], comments=True)
    if words and "…" not in arguments and "--help" not in words:
        parser = load_command_class(COMMANDS[command], command).create_parser("manage.py", command)
        parser.parse_args([PLACES.get(word, word) for word in words])
