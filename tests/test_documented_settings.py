"""The tables of settings and of checks in docs/ are those of the code."""

from __future__ import annotations

import re

from chatproxy.configuration import setting_reader
from chatproxy.doctor import checkup
from tests.support.documentation import PAGES, rows_of


def test_the_settings_table_is_that_of_the_code() -> None:
    rows = rows_of("name | default | meaning")
    assert [row[0].strip("`") for row in rows] == [setting.name for setting in setting_reader.SETTINGS]
    for setting, (_, default, meaning) in zip(setting_reader.SETTINGS, rows, strict=True):
        if default.startswith("`"):
            assert setting.parse(default.strip("`")) == setting.default, setting.name
        else:
            assert not setting.default, setting.name
        assert meaning


def test_every_secret_that_can_be_a_file_is_named() -> None:
    assert set(re.findall(r"`(\w+_FILE)`", PAGES["docs/settings.md"])) == setting_reader.FILE_NAMES


def test_the_table_of_checks_is_that_of_the_code() -> None:
    documented = [name for row in rows_of("check | what is examined") for name in row[0].split(", ")]
    assert documented == [*checkup.OF_HOST, *checkup.OF_UPSTREAM, *checkup.OF_DATABASE, *checkup.OF_LEDGER]
