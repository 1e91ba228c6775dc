"""Files of settings are read as `docker compose` reads them; an error never repeats a line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.configuration import setting_reader
from chatproxy.configuration.env_file import EnvFileError, read_env_file
from tests.support.servers.environments import variables

SECRET = "Pl4nted-Secr3t-0f-the-File"
# Docker's page on the syntax of environment files has most of these.
READ: dict[str, dict[str, str]] = {
    "": {},
    "# a comment\n\n   \n  # another\n": {},
    "A=value": {"A": "value"},
    "A=value\nB=other\n": {"A": "value", "B": "other"},
    "\ufeffA=value": {"A": "value"},
    "A=value\r\nB='other'\r\n\r\n# c\r\nC=\r\n": {"A": "value", "B": "other", "C": ""},
    "  A = value  \n\tB\t=\tother\t": {"A": "value", "B": "other"},
    "A: value": {"A": "value"},
    "export A=value\nexport  B=other": {"A": "value", "B": "other"},
    "A=": {"A": ""},
    "A=''\nB=\"\"": {"A": "", "B": ""},
    "A=value # comment": {"A": "value"},
    "A=value\t# comment": {"A": "value"},
    "A=value# no comment": {"A": "value# no comment"},
    "A=#value": {"A": "#value"},
    "A= # comment\nB=1": {"A": "", "B": "1"},
    "A='value # no comment' # comment": {"A": "value # no comment"},
    'A="value # no comment"# comment': {"A": "value # no comment"},
    "A='Let\\'s go!'": {"A": "Let's go!"},
    'A="{\\"hello\\": \\"json\\"}"': {"A": '{"hello": "json"}'},
    'A="some\\tvalue\\n\\r\\\\"': {"A": "some\tvalue\n\r\\"},
    "A='some\\tvalue'": {"A": "some\\tvalue"},
    "A=some\\tvalue": {"A": "some\\tvalue"},
    "A=postgresql://u:p%2F@h:5432/db?sslmode=disable": {"A": "postgresql://u:p%2F@h:5432/db?sslmode=disable"},
    "A=a b  c": {"A": "a b  c"},
    "A=it's\"so": {"A": "it's\"so"},
    "A=$B ${C}": {"A": "$B ${C}"},
    "KEY='-----BEGIN\nabc\n-----END'\nA=1": {"KEY": "-----BEGIN\nabc\n-----END", "A": "1"},
    "A=1\nA=2": {"A": "2"},
    "A=ключ": {"A": "ключ"},
    "A=x\u2028y\x0bz": {"A": "x\u2028y\x0bz"},
    "A-B=1\na.b=2\nexport=3": {"A-B": "1", "a.b": "2", "export": "3"},
    "A==b=": {"A": "=b="},
    "A=1\nA=": {"A": ""},
    "A=a \t b \t #c #d": {"A": "a \t b"},
    "A='x\ry'\nB=1": {"A": "x\ry", "B": "1"},
    "A=" + "x" * 2**20: {"A": "x" * 2**20},
    "A=x" + " " * 2**17 + "y": {"A": "x" + " " * 2**17 + "y"},
    "A=1\n" * 2**17: {"A": "1"},
}
# What cannot be read, the number of its line, and the fault.
FAULTS: dict[str, tuple[int, str]] = {
    SECRET: (1, "is not NAME=value"),
    f"A=1\n\n# c\n{SECRET}\n": (4, "is not NAME=value"),
    f"A=1\r\n{SECRET}\r\n": (2, "is not NAME=value"),
    f"SECURITY KEY={SECRET}": (1, "is not NAME=value"),
    f"1A={SECRET}": (1, "is not NAME=value"),
    f"={SECRET}": (1, "is not NAME=value"),
    f"setenv A {SECRET}": (1, "is not NAME=value"),
    f"export {SECRET}": (1, "is not NAME=value"),
    "=": (1, "is not NAME=value"),
    "KEY\n": (1, "is not NAME=value"),
    "export\n": (1, "is not NAME=value"),
    f"A\xa0={SECRET}": (1, "is not NAME=value"),
    f"A=1\n\ufeffB={SECRET}": (2, "is not NAME=value"),
    f"A=1\nB=x\0{SECRET}": (2, "has a NUL character"),
    f"A='\n\0{SECRET}'": (2, "has a NUL character"),
    f"A={SECRET}".encode("utf-16-le").decode(): (1, "has a NUL character"),
    f"A={SECRET}".encode("utf-16-be").decode(): (1, "has a NUL character"),
    f"A=1\rB={SECRET}\r": (1, "has a carriage return"),
    f"A=1\n# c\rB={SECRET}\r": (2, "has a carriage return"),
    f"# c\rB={SECRET}": (1, "has a carriage return"),
    f"A=''# c\rB={SECRET}": (1, "has a carriage return"),
    f"A=1 # c\rB={SECRET}": (1, "has a carriage return"),
    f"A= # c\rB={SECRET}": (1, "has a carriage return"),
    f"A=1\r\nB=2\r{SECRET}": (2, "has a carriage return"),
    f"A='{SECRET}": (1, "has a quote that is not closed"),
    f'A=1\nB="{SECRET}\nC=2\n': (2, "has a quote that is not closed"),
    f"A=1\nB='x' {SECRET}": (2, "has text behind the closing quote"),
    f"A='{SECRET}'s'": (1, "has text behind the closing quote"),
    f'A="{SECRET}\nB="{SECRET}"\n': (1, "has text behind the closing quote"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.mark.parametrize("content", READ, ids=range(len(READ)))
def test_it_works(path: Path, content: str) -> None:
    path.write_bytes(content.encode())

    assert read_env_file(path) == READ[content]


@pytest.mark.parametrize("content", FAULTS, ids=range(len(FAULTS)))
def test_what_cannot_be_read_is_named_by_its_line(path: Path, content: str) -> None:
    line, fault = FAULTS[content]
    path.write_bytes(content.encode())
    with pytest.raises(EnvFileError) as caught:
        read_env_file(path)

    words = str(caught.value)
    assert words.startswith(f"{path}, line {line} {fault}")
    assert pieces_in(words) == []
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_with_its_mark_is_no_text(path: Path, encoding: str) -> None:
    path.write_bytes(f"A={SECRET}".encode(encoding))
    with pytest.raises(EnvFileError, match="line 1 is not UTF-8 text"):
        read_env_file(path)


def test_bytes_that_are_no_text_are_named_by_their_line(path: Path) -> None:
    path.write_bytes(b"A=1\nB=" + SECRET.encode() + b"\xff\n")
    with pytest.raises(EnvFileError, match="line 2 is not UTF-8 text") as caught:
        read_env_file(path)

    assert pieces_in(str(caught.value)) == []


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's path may have a hundred characters only


IN_ITS_PLACE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a directory": (lambda path: path.mkdir(), "is a directory; it must be a file"),
    "a link to a directory": (lambda path: path.symlink_to(path.parent), "is a directory; it must be a file"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "is a symbolic link to a file that does not exist"),
    "a loop of links": (lambda path: path.symlink_to(path), "cannot be read; check its owner and mode"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe or a socket; it must be a file"),
    "a socket": (make_socket, "is a pipe or a socket; it must be a file"),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_what_is_no_file_in_its_place_is_one_line(path: Path, name: str) -> None:
    make, fault = IN_ITS_PLACE[name]
    make(path)
    with pytest.raises(EnvFileError, match=rf"^{re.escape(str(path))} {fault}") as caught:
        read_env_file(path)

    assert "\n" not in str(caught.value)


def test_a_directory_that_may_not_be_searched_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is made by hand: root, who runs these tests in a container, may search every directory."""

    def denied(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "lstat", denied)
    with pytest.raises(EnvFileError, match="cannot be read; check its owner and mode"):
        read_env_file(path)


@pytest.mark.parametrize("place", [".env", "nowhere/.env", "file/.env"])
def test_a_missing_file_has_no_variables(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()

    assert read_env_file(tmp_path / place) == {}


def test_an_empty_device_hides_a_file(path: Path) -> None:
    path.symlink_to(os.devnull)

    assert read_env_file(path) == {}


@given(st.text(alphabet="AB=:'\"# \t\n\r\\$xport_1é\u2028", max_size=60))
def test_whatever_is_in_a_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.env"
    path.write_bytes(content.encode())
    found, words = {}, ""
    try:
        found = read_env_file(path)
    except EnvFileError as error:
        words = str(error)

    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) for name in found)
    assert not words or re.fullmatch(re.escape(str(path)) + r", line \d+ (is not|has) [A-Za-z=#,; -]+", words)


@given(st.dictionaries(st.sampled_from("ABC"), st.text(st.characters(codec="utf-8", exclude_characters="\0\r"))))
def test_what_is_quoted_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    path = tmp_path_factory.getbasetemp() / "quoted.env"
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    path.write_bytes("".join(f'{name}="{value}"\n' for name, value in escaped.items()).encode())

    assert read_env_file(path) == values


@pytest.mark.parametrize("name", [".env", ".env.local", "var/secrets.env"])
def test_a_start_says_one_line_without_the_text(tmp_path: Path, name: str) -> None:
    """Runs a copy of the sources, since the files of settings are looked for beside the sources."""
    for part in ("chatproxy", "proxyapi", "usage", "manage.py"):
        (tmp_path / part).symlink_to(setting_reader.BASE_DIR / part)
    code = "import sys; from pathlib import Path; from chatproxy.configuration import setting_reader;" + (
        "setting_reader.BASE_DIR = Path(sys.argv.pop(1)); sys.argv[0] = 'manage.py'; import manage; manage.main()"
    )
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(f"PORT=1\n{SECRET}\n")
    settings = variables(tmp_path / "var")
    del settings[setting_reader.NO_ENV_FILES]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "serve"],
        cwd=setting_reader.BASE_DIR,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"chatproxy: {tmp_path / name}, line 2 is not NAME=value, nor a comment with #\n"


def pieces_in(words: str) -> list[str]:
    return [SECRET[at : at + 6] for at in range(len(SECRET) - 5) if SECRET[at : at + 6] in words]
