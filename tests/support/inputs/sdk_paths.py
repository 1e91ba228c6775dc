"""Owns the paths of the official SDK: every path and method that its resources send, read from its source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import openai

SENDERS = {
    "_get": "GET",
    "_post": "POST",
    "_put": "PUT",
    "_patch": "PATCH",
    "_delete": "DELETE",
    "_get_api_list": "GET",
}


@cache
def sdk_paths() -> dict[str, set[str]]:
    """Returns every path that the official SDK requests, with its methods; each parameter is written `{id}`.

    Raises `AssertionError` for a request whose path is written in a way that this function does not understand.
    """
    paths: dict[str, set[str]] = {}
    for file in sorted((Path(openai.__file__).parent / "resources").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in SENDERS and ast.unparse(node.func.value) == "self":
                path = re.sub(r"\{\w+\}", "{id}", written_path(node.args[0], file).partition("?")[0])
                other = [ast.literal_eval(one.value) for one in node.keywords if one.arg == "method"]
                paths.setdefault(path, set()).add(str(other[0]).upper() if other else SENDERS[node.func.attr])
    return paths


def written_path(argument: ast.expr, file: Path) -> str:
    """Returns the path in the first argument of the SDK's call that sends a request.

    The argument is a text, or a call of `path_template` with a text; for any other, raises `AssertionError`.
    """
    if isinstance(argument, ast.Call) and ast.unparse(argument.func) == "path_template":
        argument = argument.args[0]
    assert isinstance(argument, ast.Constant), f"{file}:{argument.lineno}: {ast.unparse(argument)}"
    assert isinstance(argument.value, str)
    return argument.value
