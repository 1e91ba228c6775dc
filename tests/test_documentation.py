"""README.md and docs/ stay true: examples run on a real server, tables are compared with the code, links resolve."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import chatproxy.urls
import proxyapi.urls
from chatproxy.configuration import setting_reader
from chatproxy.management.commands.serve import banner
from proxyapi.call.gateway_fields import GATEWAY_FIELDS
from proxyapi.exceptions import ProxyError, Unavailable, UpstreamFailure
from tests.simulator.server import Simulator
from tests.support.documentation import (
    DOCUMENTS,
    FENCED,
    HOST,
    PAGES,
    anchors,
    blocks,
    links,
    rows_of,
    run_curls,
    section,
    variables,
)
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, Gateway

README = PAGES["README.md"]
MOST_LINES = 250  # of README: what a newcomer reads before the first call
ABSTRACT = (Unavailable, UpstreamFailure)
CURLS = [block for block in blocks("bash") if "curl" in block]
# What the examples of docs/api.md begin with; those that import what they need stand alone.
PREAMBLE = blocks("python", "docs/api.md")[0]
PYTHONS = [block for block in blocks("python") if block != PREAMBLE]
PACKAGES = ("chatproxy", "proxyapi", "usage")
METHODS = ("get", "post", "patch", "delete")
MODULE = re.compile(
    r"(?<![\w./-])(?:chatproxy|proxyapi|usage|bench)(?!\.(?:view|add|change)_)(?:\.[a-zA-Z_]\w*)+(?![\w/])"
)
FILE = re.compile(r"(?<![\w./-])(?:chatproxy|proxyapi|usage|bench|tests)/[\w/]+\.\w+")


def name_of(block: str) -> str:
    """The first path of an example, for the test's id."""
    found = re.search(r'(?:localhost:3002|f?")(/[^\s"?]*)', block) or re.search(r"(\w+\.create)", block)
    return found[1] if found else "example"


def run_python(block: str, gateway: Gateway, tmp_path: Path, response_id: str) -> str:
    """Runs a Python example and returns what it prints."""
    (tmp_path / "audio.mp3").write_bytes(b"ID3" + bytes(1000))
    program = block if block.startswith("import os\n") else PREAMBLE + block
    done = subprocess.run(
        [sys.executable, "-I", "-c", program.replace(HOST, gateway.url)],
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
    if "$TOKEN" not in request.getfixturevalue("block"):
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
        path = re.sub(r"\(\?P<name>.*?\)", "{name}", path)
        path = re.sub(r"^v1/.*", "v1/...", path)
        view = getattr(route.callback, "cls")  # noqa: B009  (Django's stubs do not know it)
        if view.__name__ != "NotFoundView":
            yield from (f"{method.upper()} /{path}" for method in METHODS if hasattr(view, method))
    routes: Any = chatproxy.urls.urlpatterns  # paths and includes: the inferred type is `object`
    yield from (f"GET /{route.pattern}" for route in routes)


def test_the_endpoint_table_has_every_operation_and_no_other() -> None:
    assert {row[0].strip("`") for row in rows_of("method and path")} == set(operations())


@pytest.mark.parametrize("operation", [name for name in operations() if not re.match("GET|.*/(v1|api)/", name)])
def test_an_operation_has_a_section_with_both_examples(operation: str) -> None:
    text = section(f"### {operation}")
    assert "```bash\n" in text
    assert "```python\n" in text


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
    sources = "".join(path.read_text() for path in (setting_reader.BASE_DIR / "proxyapi").rglob("*.py"))
    raised = {error.code for error in errors() if error not in ABSTRACT} | set(
        re.findall(r'\bcode(?:: str)? ?= ?"(\w+)"', sources)
    )
    assert set().union(*documented.values()) == raised


def test_the_fields_of_every_call_are_those_taken_out() -> None:
    rows = rows_of("field | type | required | meaning", section("### Fields of every call"))
    assert {row[0].strip("`") for row in rows} == GATEWAY_FIELDS - {"access_token"}


def test_the_table_of_metrics_is_that_of_the_page(gateway: Gateway) -> None:
    page = gateway.http.get("/metrics", params={"access_token": ACCESS_TOKEN})
    shown = set(re.findall(r"^# TYPE (\w+)", page.text, re.MULTILINE))
    documented = {row[0].strip("`") for row in rows_of("metric | labels | meaning")}
    assert shown <= documented
    assert documented - shown <= {  # not known before the first call, the first minute is over, or without Redis
        "chatproxy_upstream_up",
        "chatproxy_clock_difference_seconds",
        "chatproxy_redis_away_seconds",
    }


def test_the_start_errors_are_those_of_the_code() -> None:
    base = setting_reader.BASE_DIR
    sources = [*(base / "chatproxy").rglob("*.py"), base / "usage/database/clock.py", base / "Makefile"]
    text = "".join(path.read_text() for path in sources)
    for line, _ in rows_of("line | what to do"):
        for fragment in re.split(r"…", line.strip("`")):
            assert fragment.strip() in text, line


def test_the_banner_is_that_of_the_code() -> None:
    shown = re.search(r"^   chatproxy (\S+)\n(.*?)^   ```$", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    values = {setting.name: setting.default for setting in setting_reader.SETTINGS}
    generated = {"SECURITY_KEY": "", "ACCESS_TOKEN": "", "ADMIN_PASSWORD": ""}
    said = banner({**values, "OPENAI_API_KEY": "sk-1"}, generated, admin_made=True)

    def labels(text: str) -> list[str]:
        return [line.strip()[:14].split("  ")[0] for line in text.splitlines()[1:]]

    assert labels("chatproxy\n" + shown[2]) == labels(said.strip())
    assert f"chatproxy {shown[1]}" in said


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_of_make_is_real(name: str) -> None:
    makefile = (setting_reader.BASE_DIR / "Makefile").read_text()
    for target in re.findall(r"(?:^|`|[A-Z]=\S+ )make ([a-z][a-z-]*)\b", DOCUMENTS[name], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_term_of_the_glossary_is_defined_once_and_used() -> None:
    """In the code or in the pages, as a word or as a part of a name; a term that nobody uses is taken out."""
    terms = [row[0] for row in rows_of("term | meaning", DOCUMENTS["ARCHITECTURE.md"])]
    assert terms == sorted(set(terms))
    sources = [path.read_text() for name in PACKAGES for path in (setting_reader.BASE_DIR / name).rglob("*.py")]
    text = re.sub(r"[_\s]+", " ", " ".join([*sources, *PAGES.values()])).lower()
    assert [term for term in terms if not re.search(rf"\b{term.lower()}s?\b", text)] == []


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_a_page_says_first_what_is_in_it(name: str) -> None:
    assert re.match(r"# .+\n\nThis page (describes|lists) ", PAGES[name])


@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - {"bench/RESULTS.md", "SECURITY.md"}))
def test_its_lines_are_short(name: str) -> None:
    """Except in tables, code and pictures, and where a line is one word.

    A program writes bench/RESULTS.md; each promise in SECURITY.md is one line, with its tests.
    """
    prose = FENCED.sub("", DOCUMENTS[name]).splitlines()
    long = [line.strip() for line in prose if len(line) > 120]
    assert not [line for line in long if " " in line and not line.startswith(("|", "!["))]


def test_readme_leads_to_every_document() -> None:
    assert set(DOCUMENTS) - {"README.md", "bench/NOTES.md"} <= set(links(README))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """Inside the project: the file is there, and has the heading. Other hosts are not asked."""
    for target in links(DOCUMENTS[name]):
        if re.match("https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = PurePosixPath(name).parent / path if path else PurePosixPath(name)
        file = (setting_reader.BASE_DIR / found).resolve()
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## Errors", "errors"),
        ("### POST /openai2/{id}/cancel", "post-openai2idcancel"),
        ("## OpenAI's API: /v1", "openais-api-v1"),
        ("## `ledger verify`, [again](x.md)", "ledger-verify-again"),
    ],
)
def test_an_anchor_is_made_as_github_makes_it(heading: str, anchor: str) -> None:
    assert anchors(f"# Title\n\n{heading}\n") == {"title", anchor}


def test_headings_of_one_name_have_anchors_of_their_own() -> None:
    assert anchors("# One\n\n```\n# no heading\n```\n\n# One\n") == {"one", "one-1"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_module_that_it_names_is_there(name: str) -> None:
    """As a dotted name, perhaps with something in the module behind it, or as a path. Permissions are no modules."""
    code = " ".join(re.findall(r"`([^`\n]+)`", DOCUMENTS[name]))
    for dotted in MODULE.findall(code):
        path = setting_reader.BASE_DIR / dotted.replace(".", "/")
        modules = (path, path.with_suffix(".py"), path.parent.with_suffix(".py"))
        assert any(module.exists() for module in modules), dotted
    for file in FILE.findall(code):
        assert (setting_reader.BASE_DIR / file).exists(), file


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_of_one_machine_is_in_it(name: str) -> None:
    assert re.findall(r"/(?:work|root|tmp)/|\.\./shared", DOCUMENTS[name]) == []
