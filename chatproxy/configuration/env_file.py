r"""Reads a file of settings (`.env`) as `docker compose` does, except that `$` stands for itself.

    NAME=value            `export` before it, and spaces around `=` or `:`, are allowed
    NAME=value # comment  of an unquoted value, a comment begins with a space and `#`
    NAME='value'          the value as it is written, but `\'` is a quote
    NAME="value"          `\n`, `\r`, `\t`, `\\` and `\"` mean what they mean in a shell's `printf`

Quoted values may have several lines. A byte order mark at the start of the file, and the `\r` of `\r\n` at line ends,
are not part of the text.

Invariant: a line that cannot be read is an error that names the file, the line and the fault, but no part of the line:
most lines of such a file are secrets.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:][ \t]*")
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"[ \t]#")
_IGNORED = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*\Z)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class EnvFileError(ImproperlyConfigured):
    """Error for an `.env` file that cannot be read; its message is one line that quotes nothing of the file."""


def read_env_file(path: Path) -> dict[str, str]:
    """Returns the variables in an `.env` file as a dict; if a name occurs twice, its last value counts.

    The dict is empty if there is no such file.

    Raises:
        EnvFileError: the file or one of its lines cannot be read; or `path` is a directory, a pipe, a socket, or a
            symbolic link to a file that does not exist.
    """
    try:
        content = read_regular_file(path) or b""
    except OSError:
        raise EnvFileError(f"{path} cannot be read; check its owner and mode") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(path, content.count(b"\n", 0, error.start) + 1, "is not UTF-8 text") from None
    if "\0" in text:  # no variable of an environment can have one
        raise _fault(path, text[: text.index("\0")].count("\n") + 1, "has a NUL character, as text in UTF-16 has")
    return dict(_variables(path, text.replace("\r\n", "\n")))


def read_regular_file(path: Path) -> bytes | None:
    """Reads the bytes of a file of settings; returns None if there is no file of this name.

    Raises:
        EnvFileError: `path` is a directory, a pipe, a socket, or a symbolic link to a file that does not exist.
        OSError: the file cannot be read.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise EnvFileError(f"{path} is a symbolic link to a file that does not exist") from None
    if stat.S_ISDIR(mode):
        raise EnvFileError(f"{path} is a directory; it must be a file (Docker makes one of a mount without a source)")
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):  # a pipe can be read only once, by one process
        raise EnvFileError(f"{path} is a pipe or a socket; it must be a file")
    return path.read_bytes()


def _variables(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Yields the name and the value of each variable in `text`, which is the content of an `.env` file.

    `path` is the file's path, for error messages.

    Raises:
        EnvFileError: a line cannot be read.
    """

    def fault(at: int, words: str) -> EnvFileError:
        return _fault(path, text.count("\n", 0, at) + 1, words)

    def check_line_ends(start: int, end: int) -> None:
        if (at := text.find("\r", start, end)) >= 0:  # else all that follows would be one value, or one comment
            raise fault(at, "has a carriage return without a line feed")

    at = _end(_IGNORED.match(text))
    check_line_ends(0, at)
    while at < len(text):
        start = at
        name = _NAME.match(text, at)
        if name is None:
            raise fault(start, "is not NAME=value, nor a comment with #")
        at = name.end()
        quote = text[at : at + 1]
        if quote in {"'", '"'}:
            quoted = (_SINGLE_QUOTED if quote == "'" else _DOUBLE_QUOTED).match(text, at)
            if quoted is None:
                raise fault(start, "has a quote that is not closed")
            rest = _REST.match(text, quoted.end())
            if rest is None:
                raise fault(start, "has text behind the closing quote; a comment needs #")
            check_line_ends(quoted.end(), rest.end())
            yield name[1], _unescaped(quoted[1], quote)
            at = rest.end()
        elif quote == "#" and text[at - 1] in " \t":
            yield name[1], ""  # a comment in the place of a value
        else:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            check_line_ends(at, end)
            comment = _COMMENT.search(text, at, end)
            yield name[1], text[at : comment.start() if comment else end].rstrip(" \t")
            at = end
        ignored = at
        at = _end(_IGNORED.match(text, at))
        check_line_ends(ignored, at)


def _unescaped(value: str, quote: str) -> str:
    """Replaces the escape sequences in a quoted value of an `.env` file; `quote` is the quotation mark around it.

    In double quotes, `\\n`, `\\r` and `\\t` become control characters, and any other escaped character stands for
    itself. In single quotes, only an escaped single quote is replaced.
    """
    if quote == "'":
        return value.replace("\\'", "'")
    return re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), value, flags=re.DOTALL)


def _end(match: re.Match[str] | None) -> int:
    """Returns the position in the text at which the match of a regular expression ends.

    Raises:
        AssertionError: `match` is None, which is a bug, since the patterns of this module match any text.
    """
    assert match is not None  # noqa: S101  (these patterns match everywhere)
    return match.end()


def _fault(path: Path, line: int, fault: str) -> EnvFileError:
    """Creates the error for line number `line` (from 1) of an `.env` file; `fault` says what is wrong there."""
    return EnvFileError(f"{path}, line {line} {fault}")
