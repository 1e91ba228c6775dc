"""Reads from the source of the official SDK every path and method that it can request."""

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
    """Returns the paths that the official SDK can request, each with its methods; parameters are written `{id}`.

    The paths are read from the SDK's source.

    Raises:
        AssertionError: the path of a request is written in a way that this function does not understand.
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
    """Returns the path that is written in the SDK's source as the first argument of a call, such as `/files/{file_id}`.

    Raises:
        AssertionError: the argument is neither a text nor a call of `path_template` with a text.
    """
    if isinstance(argument, ast.Call) and ast.unparse(argument.func) == "path_template":
        argument = argument.args[0]
    assert isinstance(argument, ast.Constant), f"{file}:{argument.lineno}: {ast.unparse(argument)}"
    assert isinstance(argument.value, str)
    return argument.value
