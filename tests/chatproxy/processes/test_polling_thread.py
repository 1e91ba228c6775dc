"""The shipper's thread of polls: it loads what calls upstream when a response is pending, and not before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from django.db import OperationalError, ProgrammingError
from pytest_django.fixtures import Settings

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.processes import polling_thread
from chatproxy.processes.polling_thread import BackgroundPolls
from proxyapi.call import background_polling
from tests.support.polling import PATIENCE, wait_until
from usage.ledger import ledger

WITHOUT_UPSTREAM = """
import sys, django
django.setup()
import chatproxy.processes.shipper_process
assert "usage.journal_shipping.shipper" in sys.modules
print(sorted({"openai", "proxyapi.upstream.client", "chatproxy.entry"} & sys.modules.keys()))
"""


@pytest.fixture(autouse=True)
def _polls(settings: Settings) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 0.001, "sk-any"


def test_an_idle_shipper_has_not_loaded_what_calls_upstream() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_UPSTREAM], cwd=BASE_DIR, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_it_polls_from_the_first_response_on_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    pending, polling, ended = threading.Event(), threading.Event(), threading.Event()
    journal: list[str] = []

    async def watch() -> None:
        polling.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(polling_thread, "_is_any_pending", pending.is_set)
    monkeypatch.setattr(background_polling, "watch_pending", watch)
    monkeypatch.setattr(ledger, "start", lambda: journal.append("opened"))
    monkeypatch.setattr(ledger, "stop", lambda: journal.append("closed"))
    polls = BackgroundPolls()
    polls.start()
    assert not polling.is_set()
    pending.set()
    assert polling.wait(PATIENCE)
    assert journal == ["opened"]
    polls.stop()
    assert ended.is_set()
    assert journal == ["opened", "closed"]
    assert not polls._thread.is_alive()


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (OperationalError("away"), False),
        (ProgrammingError("a bug"), True),
        (OSError(28, "No space left"), True),
        (RuntimeError("a bug"), True),
    ],
)
def test_an_error_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, is_logged: bool
) -> None:
    tries = []

    def fail() -> bool:
        tries.append(1)
        raise error

    monkeypatch.setattr(polling_thread, "_is_any_pending", fail)
    polls = BackgroundPolls()
    polls.start()
    wait_until(lambda: len(tries) > 2)
    polls.stop()
    assert bool(caplog.records) == is_logged
    assert not polls._thread.is_alive()


@pytest.mark.parametrize("error", [None, OperationalError("away"), RuntimeError("a bug")])
def test_without_an_upstream_key_responses_are_estimated(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Again and again, and whatever happens: journals of earlier processes may bring more of them."""
    settings.OPENAI_API_KEY = None
    looks = []

    def estimate(limit: int) -> int:
        looks.append(limit)
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(polling_thread, "UNASKED_SECONDS", 0.001)
    monkeypatch.setattr(polling_thread, "suppose_unasked", estimate)
    polls = BackgroundPolls()
    polls.start()
    wait_until(lambda: len(looks) > 2)
    polls.stop()
    assert not polls._thread.is_alive()
