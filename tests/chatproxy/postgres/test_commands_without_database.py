"""A management command says in one line that the database cannot be reached, whichever error shows it."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import InterfaceError, OperationalError


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize(
    ("app", "name", "action"),
    [("proxyapi", "keys", "list"), ("usage", "ledger", "status"), ("usage", "prices", "status")],
)
def test_an_outage_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, app: str, name: str, action: str, error: type[Exception]
) -> None:
    def fails(*_: object) -> None:
        raise error("the connection is closed\nand more")

    command = load_command_class(app, name)
    monkeypatch.setattr(command, action, fails)
    with pytest.raises(CommandError, match=r"^the database cannot be reached; .* \(the connection is closed\)$"):
        call_command(command, action)
