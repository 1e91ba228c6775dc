"""The command that makes a call again, whatever its caller sent, runs one program and reads no file of the reader's."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.thoroughness import examples
from usage.models import Request, RequestBody
from usage.page_data import reproduction

BASE = "http://127.0.0.1:3002"
# Prints what curl is given, each argument behind a NUL; nothing else can be found.
SHELL = """PATH=/nowhere; curl() { printf '\\0%s' "$@"; }\n"""
PLACEHOLDER = re.compile(r"\./[A-Za-z0-9_'+][A-Za-z0-9 ._'+-]*")
FRAGMENTS = (
    "@", "<", "@/etc/passwd", "</etc/shadow", "/home/me/.ssh/id_rsa", "..", "../", "\\", ".env", "-K", "--config", "-",
    "=", ";type=text/html", ";filename=x", ",", '"', "'", "`id`", "$(id)", "$HOME", "${x}", "!!", "|", "&", ";", ">",
    "\n", "\r", "\t", "\0", "\x1b[31m", "\u202e", "\u2028", "ü", "#", "# x", "  #", "{", "}", "[1-9]", "*", "~",
    "%0a",     "\\\n", "\\u0027",
    "<a.mp3, audio/mpeg, 3 bytes>", "file: ", "import os", '"""', "'''", "None",
)  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=6).map("".join)
names = st.from_regex(r"[A-Za-z_][\w\[\].-]{0,9}", fullmatch=True).filter(str.isascii)
fields = st.lists(st.tuples(names, hostile, st.booleans()), min_size=1, max_size=4)


def call(body: str = "", **columns: Any) -> Request:
    made = Request(**{"method": "POST", "route": "/openai", **columns})
    RequestBody(request=made, request_body=body)
    return made


def arguments_of(curl: str) -> list[tuple[str, str]]:
    """Returns the options that a shell passes to curl, with their values; the address has an empty option."""
    done = subprocess.run(
        ["/bin/sh", "-c", SHELL + curl], capture_output=True, env={"CHATPROXY_API_KEY": "mine"}, check=True
    )
    assert done.stderr == b""
    words = done.stdout.decode().split("\0")[1:]
    assert ["curl", *words] == shlex.split(
        curl[curl.index("curl ") :].replace("\\\n", " ").replace("$CHATPROXY_API_KEY", "mine")
    )
    found = []
    while words:
        word = words.pop(0)
        found.append((word, words.pop(0)) if word.startswith("-") else ("", word))
    return found


def check_curl(curl: str) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for option, value in arguments_of(curl):
        given.setdefault(option, []).append(value)
    assert set(given) <= {"", "-X", "-H", "-d", "-F", "--form-string"}
    assert len(given[""]) == 1
    assert given[""][0].startswith(f"{BASE}/")
    for value in given.get("-F", []):
        assert PLACEHOLDER.fullmatch(value.partition("=@")[2]), value
    for value in given.get("-d", []):
        assert value == "@body.json" or json.loads(value) is not Ellipsis
    return given


def check_python(program: str) -> ast.Module:
    """Checks that a program calls only what the request needs, and opens placeholders only."""
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called in {"httpx.request", "open", "print"}
            if called == "open":
                name = ast.literal_eval(node.args[0])
                assert name == "body.json" or PLACEHOLDER.fullmatch(name), name
    assert [ast.unparse(node) for node in tree.body[:2]] == ["import os", "import httpx"]
    assert len(tree.body) == 4
    return tree


@given(fields)
@example(
    [("prompt", "@/etc/passwd", False), ("language", "</etc/shadow", False), ("file", "/home/me/.ssh/id_rsa", True)]
)
@example([("file", ".env", True), ("file", "..", True), ("file", "C:\\Users\\me\\key", True)])
@examples(150)
def test_a_form_is_inert(found: list[tuple[str, str, bool]]) -> None:
    lines = [
        f"{name}: <{value}, audio/mpeg, 1,234 bytes>" if is_file else f"{name}: {value}"
        for name, value, is_file in found
    ]
    made = call("\n".join(lines))

    check_curl(reproduction.as_curl(made, BASE))
    check_python(reproduction.as_python(made, BASE))


@given(
    st.recursive(st.none() | st.integers() | hostile, lambda inner: st.lists(inner) | st.dictionaries(hostile, inner))
)
def test_a_body_of_json_is_inert(body: Any) -> None:
    made = call(json.dumps({"model": "gpt-4o", "input": body}))
    given = check_curl(reproduction.as_curl(made, BASE))
    program = check_python(reproduction.as_python(made, BASE))
    request = program.body[2]

    sent = json.loads(given["-d"][0])
    assert isinstance(request, ast.Assign)
    assert isinstance(request.value, ast.Call)
    keywords = {keyword.arg: keyword.value for keyword in request.value.keywords}
    assert ast.literal_eval(keywords["json"]) == sent
    assert sent["model"] == "gpt-4o"


@given(hostile, hostile, hostile, st.sampled_from(["GET", "DELETE", "POST"]))
def test_an_address_and_a_cut_body_are_inert(route: str, response_id: str, body: str, method: str) -> None:
    made = call(f"{{{body}", route=f"/{route}{{id}}", response_id=response_id, method=method)

    check_curl(reproduction.as_curl(made, BASE))
    check_python(reproduction.as_python(made, BASE))


@pytest.mark.parametrize(
    ("file_name", "supplied"),
    [
        ("speech.mp3", "./speech.mp3"),
        ("/home/me/.ssh/id_rsa", "./id_rsa"),
        ("..\\..\\secrets.txt", "./secrets.txt"),
        (".env", "./env"),
        ("..", "./file"),
        ("", "./file"),
        ("-K", "./K"),
        ("a;type=x,b\"c.mp3", "./a_type_x_b_c.mp3"),
        ("ü.mp3", "./_.mp3"),
    ],
)  # fmt: skip
def test_a_file_is_to_be_supplied_by_its_last_name(file_name: str, supplied: str) -> None:
    made = call(f"model: whisper-1\nfile: <{file_name}, audio/mpeg, 1,234 bytes>")
    given = check_curl(reproduction.as_curl(made, BASE))

    assert given["-F"] == [f"file=@{supplied}"]
    assert given["--form-string"] == ["model=whisper-1"]
    assert reproduction.as_curl(made, BASE).startswith(f": 'Supply first: {supplied}'\ncurl ")
    assert reproduction.as_python(made, BASE).startswith(f"# Supply first: {supplied}\nimport os\n")


def test_a_field_keeps_its_text() -> None:
    made = call("prompt: @/etc/passwd\nlanguage: </etc/shadow\ntitle: a # b;type=text/html")
    given = check_curl(reproduction.as_curl(made, BASE))

    assert given["--form-string"] == ["prompt=@/etc/passwd", "language=</etc/shadow", "title=a # b;type=text/html"]
    assert "-F" not in given
    assert "'a # b;type=text/html'" in reproduction.as_python(made, BASE)
    assert "open(" not in reproduction.as_python(made, BASE)


@pytest.mark.parametrize("depth", [99, 300, 600, 5000])
def test_a_body_however_deep_has_a_command(depth: int) -> None:
    made = call('{"input": ' + "[" * depth + "]" * depth + "}")

    given = check_curl(reproduction.as_curl(made, BASE))
    check_python(reproduction.as_python(made, BASE))

    assert (given["-d"] == ["@body.json"]) == (depth > reproduction.MAX_DEPTH)


@pytest.mark.parametrize(
    ("body", "columns", "missing"),
    [
        ('{"model": "gpt-4o", "input": "hi"}', {}, ""),
        ('{"input": "x <b> <1 and 2> y"}', {}, ""),
        ('{"input": [{"image_url": "<base64 image/png, 5,758 bytes>"}]}', {}, "binary data"),
        ('{"input": "hi", "previous_response_id": "resp_1"}', {}, "the same key"),
        ('{"input": "hi", "conversation": {"id": "conv_1"}}', {}, "the same key"),
        ('{"input": "hi", "previous_response_id": null}', {}, ""),
        ('{"input": "hi\u2026 <3,000 bytes cut>', {}, "the whole body in body.json, since only a part of it was kept"),
        ('{"input": "hi', {}, "the body in body.json: it is no JSON"),  # sent like this, and kept whole
        ('{"input": "hi"}', {"error_code": "unsupported_media_type"}, "the Content-Type that was refused"),
        ("", {"method": "DELETE", "route": "/openai2/{id}"}, "in place of RESPONSE_ID"),
        ("", {"method": "GET", "route": "/openai2/{id}", "response_id": "resp_1"}, "the same key"),
    ],
)
def test_the_first_line_says_what_is_missing(body: str, columns: dict[str, str], missing: str) -> None:
    made = call(body, **columns)
    curl, program = reproduction.as_curl(made, BASE), reproduction.as_python(made, BASE)

    check_curl(curl)
    check_python(program)
    for text in (curl.partition("\n")[0], program.partition("\n")[0]):
        assert ("Supply first: " in text) == bool(missing)
        assert missing in text
