"""README.md cannot rot: its examples run against a real server, its tables are the code's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chatproxy.urls
import proxyapi.urls
from chatproxy import environment
from chatproxy.management.commands.serve import banner
from proxyapi.call.gateway_fields import OURS
from proxyapi.exceptions import ProxyError, Unavailable, UpstreamFailure
from tests.simulator.server import Simulator
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, Gateway

README = (environment.BASE_DIR / "README.md").read_text()
HOST = "http://localhost:3002"
ABSTRACT = (Unavailable, UpstreamFailure)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


CURLS = [block for block in blocks("bash") if "curl" in block]
PREAMBLE, *PYTHONS = blocks("python")


def name_of(block: str) -> str:
    """The first path of an example, for the test's id."""
    found = re.search(r'(?:localhost:3002|f?")(/[^\s"?]*)', block) or re.search(r"(\w+\.create)", block)
    return found[1] if found else "example"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table whose heading row starts so."""
    table = README.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def variables(tmp_path: Path, response_id: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "KEY": SECURITY_KEY, "TOKEN": ACCESS_TOKEN, "ID": response_id}


def run_curls(script: str, gateway: Gateway, tmp_path: Path, response_id: str = "") -> list[int]:
    """Runs a shell example and returns the statuses of its answers.

    The shell is restricted, `curl` is its only program, and whatever host that names, it talks to `gateway`.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    statuses = tmp_path / "statuses"
    connect = f"--connect-to ::{gateway.url.removeprefix('http://')} --noproxy '*' --proto =http --max-time {PATIENCE}"
    report = r"--write-out '%{stderr}%{http_code}\n'"
    curl = programs / "curl"
    curl.write_text(
        f'#!/bin/sh\nexec {shutil.which("curl")} -q -sS --fail-with-body {connect} {report} "$@" 2>> {statuses}\n'
    )
    curl.chmod(0o700)
    (tmp_path / "audio.mp3").write_bytes(b"ID3" + bytes(1000))
    done = subprocess.run(
        ["/bin/bash", "--restricted", "-e", "-c", script],
        cwd=tmp_path,
        env={**variables(tmp_path, response_id), "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    said = statuses.read_text() if statuses.exists() else ""
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{said}"
    assert done.stderr == ""
    return [int(line) for line in said.splitlines()]


def run_python(block: str, gateway: Gateway, tmp_path: Path, response_id: str) -> str:
    """Runs a Python example and returns what it prints."""
    (tmp_path / "audio.mp3").write_bytes(b"ID3" + bytes(1000))
    done = subprocess.run(
        [sys.executable, "-I", "-c", (PREAMBLE + block).replace(HOST, gateway.url)],
        cwd=tmp_path,
        env=variables(tmp_path, response_id),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def response_id(gateway: Gateway, simulator: Simulator) -> str:
    """A stored response that still runs: it can be read, cancelled and deleted."""
    answer = gateway.post("/openai2", {"model": "gpt-4o", "input": "hi", "background": True})
    return str(answer.json()["id"])


@pytest.fixture
def server(request: pytest.FixtureRequest, gateway: Gateway) -> Gateway:
    """The shared server; one of its own for the pages that answer once in ten seconds."""
    if "TOKEN" not in request.getfixturevalue("block"):
        return gateway
    start: Callable[..., Gateway] = request.getfixturevalue("start_gateway")
    return start()


@pytest.mark.parametrize("block", CURLS, ids=name_of)
def test_a_curl_example_works(block: str, server: Gateway, response_id: str, tmp_path: Path) -> None:
    assert HOST in block
    statuses = run_curls(block, server, tmp_path, response_id)
    assert statuses == [200] * len(re.findall(r"^curl ", block, re.MULTILINE))


@pytest.mark.parametrize("block", PYTHONS, ids=name_of)
def test_a_python_example_works(block: str, server: Gateway, response_id: str, tmp_path: Path) -> None:
    assert run_python(block, server, tmp_path, response_id).strip()


def test_a_failing_curl_is_noticed(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not_found"):
        run_curls(f"curl {HOST}/nowhere", gateway, tmp_path)


@pytest.mark.parametrize(("script", "fault"), [("ls", "command not found"), ("/bin/ls", "restricted")])
def test_the_shell_runs_nothing_but_curl(script: str, fault: str, gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=fault):
        run_curls(script, gateway, tmp_path)


def operations() -> Iterator[str]:
    """`METHOD /path` of everything that the server answers."""
    for route in proxyapi.urls.urlpatterns:
        path = re.sub(r"\(\?P<response_id>.*?\)", "{id}", str(route.pattern).strip("^$"))
        path = re.sub(r"^v1/.*", "v1/...", path)
        view = getattr(route.callback, "cls")  # noqa: B009  (Django's stubs do not know it)
        if view.__name__ != "NotFoundView":
            yield from (f"{method.upper()} /{path}" for method in ("get", "post", "delete") if hasattr(view, method))
    routes: Any = chatproxy.urls.urlpatterns  # paths and includes: the inferred type is `object`
    yield from (f"GET /{route.pattern}" for route in routes)


def test_the_endpoint_table_has_every_operation_and_no_other() -> None:
    assert {row[0].strip("`") for row in rows_of("method and path")} == set(operations())


@pytest.mark.parametrize("operation", [name for name in operations() if not re.match("GET|.*/v1/", name)])
def test_an_operation_has_a_section_with_both_examples(operation: str) -> None:
    section = README.partition(f"\n### {operation}\n")[2].partition("\n### ")[0]
    assert "```bash\n" in section
    assert "```python\n" in section


def test_the_settings_table_is_that_of_the_code() -> None:
    rows = rows_of("name | default | meaning")
    assert [row[0].strip("`") for row in rows] == [setting.name for setting in environment.SETTINGS]
    for setting, (_, default, meaning) in zip(environment.SETTINGS, rows, strict=True):
        if default.startswith("`"):
            assert setting.parse(default.strip("`")) == setting.default, setting.name
        else:
            assert not setting.default, setting.name
        assert meaning


def errors(cls: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    for child in cls.__subclasses__():
        yield from (child, *errors(child))


def test_the_error_table_is_that_of_the_code() -> None:
    documented: dict[tuple[int, str], set[str]] = {}
    for status, kind, codes, _ in rows_of("status | type | code | when"):
        documented.setdefault((int(status), kind.strip("`")), set()).update(re.findall(r"\w+", codes))
    for error in errors():
        if error not in ABSTRACT:
            assert error.code in documented[error.status_code, error.type], error
    sources = "".join(path.read_text() for path in (environment.BASE_DIR / "proxyapi").rglob("*.py"))
    raised = {error.code for error in errors() if error not in ABSTRACT} | set(
        re.findall(r'\bcode(?:: str)? ?= ?"(\w+)"', sources)
    )
    assert set().union(*documented.values()) == raised


def test_the_fields_of_every_call_are_those_taken_out() -> None:
    assert {row[0].strip("`") for row in rows_of("field")} == OURS - {"access_token"}


def test_the_start_errors_are_those_of_the_code() -> None:
    base = environment.BASE_DIR
    sources = [*(base / "chatproxy").rglob("*.py"), base / "usage/database/clock.py", base / "Makefile"]
    text = "".join(path.read_text() for path in sources)
    for line, _ in rows_of("line | what to do"):
        for fragment in re.split(r"…", line.strip("`")):
            assert fragment.strip() in text, line


def test_the_banner_is_that_of_the_code() -> None:
    shown = re.search(r"^   chatproxy (\S+)\n(.*?)^   ```$", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    values = {setting.name: setting.default for setting in environment.SETTINGS}
    generated = {"SECURITY_KEY": "", "ACCESS_TOKEN": "", "ADMIN_PASSWORD": ""}
    said = banner({**values, "OPENAI_API_KEY": "sk-1"}, generated, admin_made=True)

    def labels(text: str) -> list[str]:
        return [line.strip()[:14].split("  ")[0] for line in text.splitlines()[1:]]

    assert labels("chatproxy\n" + shown[2]) == labels(said.strip())
    assert f"chatproxy {shown[1]}" in said


def test_nothing_of_one_machine_is_in_it() -> None:
    assert re.findall(r"/(?:work|root|tmp)/|\.\./shared", README) == []


def test_every_command_of_make_is_real() -> None:
    makefile = (environment.BASE_DIR / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)\b(?=[ `\n])", "\n".join(blocks("bash"))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_files_that_it_names_are_there() -> None:
    for name in ("LICENSE", "ARCHITECTURE.md", "CONTRIBUTING.md", ".env.example"):
        assert f"`{name}`" in README
        assert (environment.BASE_DIR / name).exists()
