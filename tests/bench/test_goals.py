"""Goals: how they are judged, and where they find their figures in the results."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from bench.measures.rounds import figures, in_turns, line
from bench.reporting import report, results
from bench.reporting.goals import ENOUGH, GOALS, Goal, at_least, at_most, difference, measured, ratio, total, within
from bench.reporting.names import BODIES, CHAT, EMPTY


class Pair(NamedTuple):
    cost: float
    rate: float


def goal(rounds: list[float], **limits: float) -> tuple[str, str]:
    return Goal("x", "", lambda _: rounds, ".1f", "B", **limits).reached({})


@pytest.mark.parametrize(
    ("rounds", "limits", "said"),
    [
        ([0.9, 1.0, 1.0, 1.5, 9.0], {"most": 1}, ("1.0 B (0.9 to 9.0)", "yes")),
        ([0.9, 0.9, 1.1, 1.1, 1.1], {"most": 1}, ("1.1 B (0.9 to 1.1)", "**no**")),
        ([0.1, 0.1, 1.0, 1.0, 1.0], {"least": 1}, ("1.0 B (0.1 to 1.0)", "yes")),
        ([0.9, 0.9, 0.9, 1.0, 1.0], {"least": 1}, ("0.9 B (0.9 to 1.0)", "**no**")),
        ([0.5], {"most": 1}, ("0.5 B", "not judged: 1 of 5 rounds")),
        ([0.5] * 4, {"most": 1}, ("0.5 B (0.5 to 0.5)", "not judged: 4 of 5 rounds")),
    ],
    ids=["at most", "above", "at least", "below", "one round", "four rounds"],
)
def test_the_median_of_enough_rounds_is_judged(
    rounds: list[float], limits: dict[str, float], said: tuple[str, str]
) -> None:
    assert goal(rounds, **limits) == said


def test_a_goal_judges_the_figure_and_not_its_rounded_text() -> None:
    assert goal([1.04] * ENOUGH, most=1) == ("1.0 B (1.0 to 1.0)", "**no**")


@pytest.mark.parametrize("value", [1 / 1.1, 1, 1.1])
def test_two_figures_are_within_a_share_on_either_side(value: float) -> None:
    assert within("x", lambda _: [value] * ENOUGH, 0.1).reached({})[1] == "yes"
    assert within("x", lambda _: [value * 1.11] * ENOUGH, 0.1).reached({})[1] == ("yes" if value < 1 else "**no**")


def test_targets_say_what_is_judged() -> None:
    assert at_most("x", 0.45, "B", lambda _: [1]).target == "≤ 0.45 B"
    assert at_least("x", 6000, "rows", lambda _: [1]).target == "≥ 6,000 rows"
    assert within("x", lambda _: [1], 0.2).target == "within 20%"


def test_ratios_are_taken_round_by_round() -> None:
    one, two = (lambda found, name=name: found[name] for name in ("one", "two"))
    found = {"one": [1.0, 4.0, 9.0], "two": [1.0, 2.0, 3.0]}

    assert ratio(one, two)(found) == [1, 2, 3]
    assert difference(one, two)(found) == [0, 2, 6]
    assert total(one, two)(found) == [2, 6, 12]
    with pytest.raises(ValueError, match="zip"):
        ratio(one, two)({**found, "two": [1.0]})


def test_subjects_take_turns_and_each_round_begins_with_the_last() -> None:
    made: list[str] = []

    def measure(name: str) -> int:
        made.append(name)
        return len(made)

    assert in_turns([lambda: measure("a"), lambda: measure("b")], 3) == [[1, 4, 5], [2, 3, 6]]
    assert made == ["a", "b", "b", "a", "a", "b"]


def test_a_line_has_the_median_and_the_rounds_of_each_figure() -> None:
    found = line("nginx", "/x", [Pair(3, 10), Pair(1, 30), Pair(2, 20)])

    assert found == {
        **{"server": "nginx", "what": "/x", "cost": 2, "rate": 20},
        "rounds": {"cost": [3, 1, 2], "rate": [10, 30, 20]},
    }
    assert measured("calls", "cost", "/x", "nginx")({"bench": {"calls": [found]}}) == [3, 1, 2]
    assert measured("idle", "rate")({"bench": {"idle": figures([Pair(3, 10)])}}) == [10]


@pytest.mark.parametrize("found", [{}, {"bench": {}}, {"bench": {"calls": []}, "peers": {"calls": [], "events": []}}])
def test_what_was_not_measured_is_said_to_be_so(found: dict[str, Any]) -> None:
    assert {goal.reached(found) for goal in GOALS} == {("not measured yet", "")}


def test_results_of_before_rounds_were_kept_are_still_shown_and_judged_no_more() -> None:
    old = [{"server": "B", "what": EMPTY}, {"server": "chatproxy", "what": CHAT}]
    costs = {"calls_per_second": 1000.0, "cpu_ms": 0.5, "postgres_ms": 0.1}
    growth = {"ledgers": [{"rows": 0, "b_ms": 1.0, **costs}]}

    assert [row[:2] for row in report.call_rows([{**one, **costs} for one in old], 1.0)] == [
        ["B", f"`{EMPTY}`"],
        ["chatproxy", f"`{CHAT}`"],
    ]
    assert [row[0] for row in report.growth_rows(growth["ledgers"])] == ["0"]
    assert GOALS[0].reached({"bench": {"calls": [{**one, **costs} for one in old]}}) == ("not measured yet", "")


def test_the_page_has_the_pages_and_the_size_of_a_full_ledger() -> None:
    pages = [{"what": "one request", "p50": 20.4, "p95": 31.0, "cpu_ms": 15.0}]
    megabytes = {"rows": 2000.0, BODIES: 170.0, "sums": 100.0}
    shape = {"calls": 2_000_000, "weeks": 52, "keys": 2000, "bodies": 100_000}

    text = "\n".join(
        report.full_ledger({**shape, "pages": pages, "megabytes": megabytes, "verify_day": {"seconds": 7.04}})
    )

    assert text.startswith("## A ledger of 2 million calls")
    assert "| one request | 20 | 31 | 15 |" in text
    assert "| disk, a million calls without bodies | 1,050 MB |" in text
    assert "| disk, the bodies of a million calls, 2 KB each | 1,700 MB |" in text
    assert "| 7.0 s |" in text


def test_every_goal_stands_in_the_page_once() -> None:
    page = results.page()

    assert len({goal.figure for goal in GOALS}) == len(GOALS)
    assert [goal.figure for goal in GOALS if page.count(f"\n| {goal.figure} | {goal.target} |") != 1] == []
