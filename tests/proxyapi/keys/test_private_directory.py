"""Directories that are made for private files are for their owner only, and so are those above them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxyapi.keys.private_file import make_private_directory


def test_each_directory_that_is_made_is_private(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)  # whatever the umask is
    make_private_directory(there / "a" / "b")
    make_private_directory(there / "a" / "b")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (there, there / "a", there / "a" / "b")]
    assert modes == [0o755, 0o700, 0o700]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_private_directory(tmp_path / "file" / "below")
