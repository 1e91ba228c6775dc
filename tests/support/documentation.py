"""Reads the documentation for tests: its pages, the parts to compare with the code, and its shell examples.

The examples can be run in a restricted shell.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from chatproxy.configuration.setting_reader import BASE_DIR
from tests.support.callers.api_tokens import make_token_at
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, Gateway

HOST = "http://localhost:3002"  # as the examples write it
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# What people read who use the gateway, by its path: README.md and docs/.
PAGES = {
    str(path.relative_to(BASE_DIR)): path.read_text()
    for path in (BASE_DIR / "README.md", *sorted((BASE_DIR / "docs").glob("*.md")))
}
# All of the project's prose: also what people read who change the code.
DOCUMENTS = {str(path.relative_to(BASE_DIR)): path.read_text() for path in sorted(BASE_DIR.glob("*.md"))} | PAGES
for _path in sorted((BASE_DIR / "bench").glob("*.md")):
    DOCUMENTS[str(_path.relative_to(BASE_DIR))] = _path.read_text()


def blocks(language: str, page: str = "") -> list[str]:
    """Returns the code blocks in a language, such as `sh`, from one page of the documentation or from all pages."""
    texts = [PAGES[page]] if page else PAGES.values()
    return [block for text in texts for block in blocks_in(text, language)]


def blocks_in(text: str, language: str) -> list[str]:
    """Returns the fenced code blocks of a language in a part of a page."""
    return [block for _, found, block in FENCED.findall(text) if found == language]


def section(heading: str) -> str:
    """Returns the text of the documentation below a heading (`## Errors`), up to the next one of at least its level.

    Raises:
        AssertionError: not exactly one page has the heading.
    """
    level = len(heading) - len(heading.lstrip("#"))
    found = [text.partition(f"\n{heading}\n")[2] for text in PAGES.values() if f"\n{heading}\n" in text]
    assert len(found) == 1, heading
    return re.split(rf"\n#{{1,{level}}} ", found[0])[0]


def rows_of(heading: str, text: str = "") -> list[list[str]]:
    """Finds the table whose heading row begins with `heading`, and returns its cells, as a list for each row.

    The table is searched in `text` or, if that is empty, in all pages of the documentation.

    Raises:
        AssertionError: there is no such table, or more than one.
    """
    tables = (text or "\n".join(PAGES.values())).split(f"\n| {heading} |")[1:]
    assert len(tables) == 1, heading
    lines = tables[0].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, by which links refer to them, as GitHub names them."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.*)$", FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def links(text: str) -> list[str]:
    """Returns the targets of the links and pictures in a page; links inside of code are left out."""
    plain = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))
    return re.findall(r"\]\(([^()\s]+)\)", plain)


def variables(tmp_path: Path, response_id: str) -> dict[str, str]:
    """Returns the environment variables that a shell example of the documentation needs to run."""
    return {"HOME": str(tmp_path), "CHATPROXY_API_KEY": SECURITY_KEY, "ACCESS_TOKEN": ACCESS_TOKEN, "ID": response_id}


def run_curls(script: str, gateway: Gateway, tmp_path: Path, response_id: str = "") -> list[int]:
    """Runs a shell example of the documentation, and returns the statuses of the answers to its `curl` commands.

    An example that needs an API token gets a new one.

    The shell is restricted. Its only program is `curl`, which connects to `gateway` whatever host a URL names.
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
    more = {"API_TOKEN": make_token_at(gateway, tmp_path.name)} if "$API_TOKEN" in script else {}
    done = subprocess.run(
        ["/bin/bash", "--restricted", "-e", "-c", script],
        cwd=tmp_path,
        env={**variables(tmp_path, response_id), **more, "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    said = statuses.read_text() if statuses.exists() else ""
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{said}"
    assert done.stderr == ""
    return [int(line) for line in said.splitlines()]
