"""Counting for limits, the same in this process and in Redis: a limit that changes does not begin anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from proxyapi.keys.callers import Caller, TeamCeilings
from proxyapi.limits import limit_counters as counters_module
from proxyapi.limits.limit_counters import LimitCounters, LimitState, ProcessCounters
from proxyapi.limits.limit_counters_in_redis import SharedCounters
from proxyapi.limits.redis_link import PipelinedRedis
from tests.support.moved_clock import PutClock
from tests.support.servers.redis_server import RedisServer


@asynccontextmanager
async def counting(place: str, directory: Path) -> AsyncIterator[LimitCounters]:
    if place == "in this process":
        yield ProcessCounters()
        return
    server = RedisServer(directory)
    server.start()
    client = PipelinedRedis(server.url)
    try:
        yield SharedCounters(client, {})
    finally:
        await client.stop()
        server.stop()


async def count(counters: LimitCounters, name: str, limit: int) -> tuple[bool, LimitState]:
    """Counts one request of one spender; returns whether it was within the limit, and what is left of that."""
    refuser, (state,) = await counters.count_requests([(name, limit)])
    return refuser is None, state


places = pytest.mark.parametrize("place", ["in this process", "in Redis"])


@places
async def test_a_limit_that_changes_lets_in_no_more_than_the_highest(place: str, tmp_path: Path) -> None:
    async with counting(place, tmp_path) as counters:
        let_in = [limit for limit in (3, 5, 4, 2, 6) for _ in range(10) if (await count(counters, "a", limit))[0]]
        assert let_in == [3, 3, 3, 5, 5, 6]
        _, standing = await count(counters, "a", 2)
        assert (standing.limit, standing.remaining) == (2, 0)
        assert (await count(counters, "b", 1))[0]


@places
async def test_tokens_that_are_spent_stay_spent_when_the_limit_changes(place: str, tmp_path: Path) -> None:
    async with counting(place, tmp_path) as counters:
        await counters.add_tokens("a", 10, 8)
        assert [(await counters.remaining_tokens("a", limit)).remaining for limit in (10, 20, 5)] == [2, 12, 0]
        await counters.add_tokens("a", 20, 4)
        assert (await counters.remaining_tokens("a", 20)).remaining == 8


@places
async def test_a_limit_of_nothing_lets_nothing_in(place: str, tmp_path: Path) -> None:
    async with counting(place, tmp_path) as counters:
        assert await count(counters, "a", 0) == (False, (0, 0, 0.0))
        assert (await count(counters, "a", 1))[0]
        assert not (await count(counters, "a", 0))[0]


async def test_a_lowered_limit_says_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Mock()
    monkeypatch.setattr(counters_module, "time", clock)
    counters = ProcessCounters()

    async def hit(now: float, limit: int) -> tuple[bool, LimitState]:
        clock.monotonic.return_value = now
        return await count(counters, "a", limit)

    for moment in (0.0, 10.0, 20.0, 30.0):
        assert (await hit(moment, 4))[0]
    assert await hit(40.0, 2) == (False, (2, 0, 40.0))  # the one of 20 has left at 80
    assert not (await hit(79.9, 2))[0]
    assert (await hit(80.0, 2))[0]


@places
@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(seconds=-20)], ids=str)
async def test_a_clock_that_goes_back_frees_nothing_and_lets_nobody_wait_long(
    place: str, tmp_path: Path, put_clock: PutClock, ahead: timedelta
) -> None:
    async with counting(place, tmp_path) as counters:
        for _ in range(3):
            await count(counters, "a", 3)
        await counters.add_tokens("a", 10, 8)
        assert await counters.pace("page", 10) == 0
        put_clock(ahead)
        is_counted, state = await count(counters, "a", 3)
        assert not is_counted
        assert 0 < state.reset <= 60
        state = await counters.remaining_tokens("a", 10)
        assert state.remaining == 2
        assert 0 < state.reset <= 60
        assert 0 < await counters.pace("page", 10) <= 10


@places
@pytest.mark.parametrize("ahead", [timedelta(days=365), timedelta(seconds=40)], ids=str)
async def test_a_clock_that_goes_forward_changes_no_limit(
    place: str, tmp_path: Path, put_clock: PutClock, ahead: timedelta
) -> None:
    async with counting(place, tmp_path) as counters:
        for _ in range(3):
            await count(counters, "a", 3)
        await counters.add_tokens("a", 10, 8)
        assert await counters.pace("page", 10) == 0
        put_clock(ahead)
        assert not (await count(counters, "a", 3))[0]
        assert (await counters.remaining_tokens("a", 10)).remaining == 2
        assert 0 < await counters.pace("page", 10) <= 10


@pytest.mark.parametrize("differs", [timedelta(seconds=40), timedelta(seconds=-40)], ids=str)
async def test_hosts_whose_clocks_differ_share_one_minute(
    tmp_path: Path, put_clock: PutClock, differs: timedelta
) -> None:
    """The other host says when the oldest request leaves the minute: not 40 seconds earlier or later."""
    async with counting("in Redis", tmp_path) as counters:
        await count(counters, "a", 4)
        put_clock(differs)
        is_counted, state = await count(counters, "a", 4)
        assert (is_counted, state.remaining) == (True, 2)
        assert 50 < state.reset <= 60
        put_clock(timedelta(0))
        is_counted, state = await count(counters, "a", 4)
        assert (is_counted, state.remaining) == (True, 1)
        assert 50 < state.reset <= 60


# A key and its team


@places
@pytest.mark.parametrize("limited", ["requests", "tokens", "calls"])
@pytest.mark.parametrize("refuser", ["key", "team"])
async def test_what_one_of_key_and_team_refuses_counts_for_neither(
    place: str, tmp_path: Path, limited: str, refuser: str
) -> None:
    rules = {"requests": "requests_per_minute", "tokens": "tokens_per_minute", "calls": "parallel_calls"}
    tight: dict[str, Any] = {rules[limited]: 2}
    wide: dict[str, Any] = {rules[limited]: 5}
    team = TeamCeilings("same name", **(tight if refuser == "team" else wide))
    key = Caller("same name", team_ceilings=team, **(wide if refuser == "team" else tight))
    ceilings = key.limit_ceilings
    async with counting(place, tmp_path) as counters:
        await counters.settle(ceilings, "earlier", 1)
        verdicts = []
        for number in range(4):
            verdicts.append(await counters.count_call(ceilings, f"lease {number}"))
            if limited == "tokens" and not verdicts[-1].refused_by:
                await counters.settle(ceilings, f"lease {number}", 1)
        alone = TeamCeilings("same name", **wide) if refuser == "key" else Caller("same name", **wide)
        rest = [await counters.count_call([alone], f"more {number}") for number in range(4)]

    refused = [number for number, verdict in enumerate(verdicts) if verdict.refused_by]
    assert refused == ([1, 2, 3] if limited == "tokens" else [2, 3])
    for number in refused:
        assert verdicts[number].refused_by == limited
        assert verdicts[number].refuser == (team if refuser == "team" else key)
    # The other one has counted the admitted calls only: so three more fit, or all without further tokens.
    admitted = [verdict.refused_by == "" for verdict in rest]
    assert admitted == ([True] * 4 if limited == "tokens" else [True, True, True, False])


@places
async def test_of_key_and_team_the_limit_of_which_less_is_left_is_told(place: str, tmp_path: Path) -> None:
    team = TeamCeilings("b", requests_per_minute=5, tokens_per_minute=10)
    async with counting(place, tmp_path) as counters:
        one, other = (Caller(name, team_ceilings=team, requests_per_minute=3, tokens_per_minute=100) for name in "ac")
        for _ in range(3):
            await counters.count_call(one.limit_ceilings, "")
        await counters.settle(one.limit_ceilings, "", 4)
        verdict = await counters.count_call(other.limit_ceilings, "")

    told = {kind: state[:2] for kind, state in verdict.limit_states.items()}
    assert told == {"requests": (5, 1), "tokens": (10, 6)}
