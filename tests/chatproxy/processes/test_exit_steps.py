"""The steps of a shutdown: if one fails or hangs, the others still run, and the ledger is drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatproxy.processes import exit_steps, lifespan
from chatproxy.processes.exit_steps import ShutdownSteps

STEPS = ("upstream", "limiter", "reservations", "keyring", "ledger", "worker")
FAULTS: dict[str, Callable[[], Exception]] = {
    "OSError": lambda: OSError(28, "No space left on device"),
    "RuntimeError": lambda: RuntimeError("a bug"),
    "TimeoutError": TimeoutError,
}


class Recorded:
    """Records which steps have run; `failing` names the step that raises `fault`, or hangs."""

    def __init__(self, failing: str, fault: Exception | None) -> None:
        self.failing = failing
        self.fault = fault
        self.ended: list[str] = []

    def step(self, name: str) -> Callable[[], None]:
        def end() -> None:
            self.ended.append(name)
            if name == self.failing and self.fault is not None:
                raise self.fault

        return end

    def waiting_step(self, name: str) -> Callable[[], Any]:
        async def end() -> None:
            self.step(name)()
            if name == self.failing:
                await asyncio.Event().wait()

        return end


def part(**methods: Any) -> SimpleNamespace:
    async def start(*_: str) -> None:
        """Starts nothing."""

    return SimpleNamespace(**{"start": lambda: None, "open": start, **methods})


async def run_lifespan(monkeypatch: pytest.MonkeyPatch, recorded: Recorded) -> list[str]:
    """Runs the lifespan from start to end; returns the types of the messages that it sends."""

    async def forever() -> None:
        await asyncio.Event().wait()

    async def start() -> None:
        """Starts nothing."""

    journal = SimpleNamespace(writer="a writer")
    parts = {
        "upstream": part(prepare=lambda: None, close=recorded.waiting_step("upstream")),
        "limiter": part(start=start, stop=recorded.waiting_step("limiter")),
        "reservations": part(close=recorded.waiting_step("reservations")),
        "keyring": part(stop=recorded.step("keyring")),
        "ledger": part(stop=recorded.step("ledger"), journal=journal),
        "WorkerFile": lambda _state: part(stop=recorded.step("worker")),
        "owner_store": SimpleNamespace(sweep_forever=forever),
        "freeze_loaded_objects": lambda: None,
    }
    for name, value in parts.items():
        monkeypatch.setattr(lifespan, name, value)
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await lifespan.run_lifespan(cast(Any, receive), cast(Any, send))
    return sent


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("failing", STEPS)
async def test_a_step_that_fails_ends_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str, fault: str
) -> None:
    recorded = Recorded(failing, FAULTS[fault]())
    assert await run_lifespan(monkeypatch, recorded) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert recorded.ended == list(STEPS)
    [record] = [record for record in caplog.records if record.name == "chatproxy.processes.exit_steps"]
    assert record.exc_info


@pytest.mark.parametrize("failing", ["upstream", "limiter", "reservations"])
async def test_a_step_that_hangs_ends_no_other(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    monkeypatch.setattr(exit_steps, "STEP_SECONDS", 0.01)
    recorded = Recorded(failing, None)
    assert await run_lifespan(monkeypatch, recorded) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert recorded.ended == list(STEPS)


async def test_a_start_that_fails_ends_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded("", None)

    async def fail(_writer: str) -> None:
        raise RuntimeError("a bug")

    journal = SimpleNamespace(writer="a writer")
    monkeypatch.setattr(lifespan, "ledger", part(stop=recorded.step("ledger"), journal=journal))
    monkeypatch.setattr(lifespan, "WorkerFile", lambda _report: part(stop=recorded.step("worker")))
    monkeypatch.setattr(lifespan, "keyring", part(stop=recorded.step("keyring")))
    monkeypatch.setattr(lifespan, "reservations", SimpleNamespace(open=fail))

    async def start_and_end() -> None:
        async with ShutdownSteps() as steps:
            lifespan.start_ledger(steps)
            await lifespan.start_parts(steps)

    with pytest.raises(RuntimeError, match="a bug"):
        await start_and_end()
    assert recorded.ended == ["keyring", "ledger", "worker"]


async def test_all_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    recorded = Recorded("a", OSError("no"))
    async with ShutdownSteps() as steps:
        steps.add("third", recorded.step("b"))
        steps.add("second", recorded.waiting_step("a"))
        steps.add("first", recorded.step("a"))
    assert recorded.ended == ["a", "a", "b"]
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["first", "second"]
