"""Makes the data of a dashboard's charts, as the script of the page reads them: calls, dollars, tokens and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NotRequired, TypedDict

from usage.models import Dimension, Outcome
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_reader import DashboardNumbers
from usage.page_data.errors.call_faults import OUTCOME_LABELS
from usage.page_data.filters import ANY_DATE
from usage.sums.totals_reader import Totals

MAX_CHART_SERIES = 5  # models in the chart of dollars; all others are added up to one further series
TotalsByBin = Sequence[Totals | None]


class ChartSeries(TypedDict):
    """A line of a chart, or all its bars of one colour: one value for each bin of time; None for an unknown value.

    `look` is the number of the colour and pattern, from 0; by default, the place of this series in the chart.
    """

    name: str
    values: Sequence[float | None]
    look: NotRequired[int]


class Charts(TypedDict):
    """The data of all charts of a dashboard, as the script of the page reads them.

    `step` is the length of a bin in seconds. Only calls that began from `start` until before `end` are counted, so the
    first and the last bin may be incomplete.
    """

    times: list[str]  # where the bins begin, in ISO 8601
    step: float
    start: str  # in ISO 8601
    end: str
    calls: list[ChartSeries]
    dollars: list[ChartSeries]
    tokens: list[ChartSeries]
    latency: list[ChartSeries]  # milliseconds


def make_charts(reading: DashboardNumbers, *, of_all_calls: bool = False) -> Charts:
    """Returns the data of a dashboard's charts.

    With `of_all_calls`, the chart of latencies also has lines for the time of upstream and of the gateway, which are
    not stored for single keys.
    """
    series = reading.series
    everything = series.everything
    # An outcome looks the same in every range of time, whichever others there are.
    outcomes = [
        ChartSeries(name=OUTCOME_LABELS[value].capitalize(), values=[int(calls) for calls in line], look=number)
        for number, value in enumerate(Outcome.values)
        if (line := series.by_value[Dimension.OUTCOME].get(value)) is not None
    ]
    latency = [
        ChartSeries(name=f"p{share * 100:.0f}", values=_percentiles(everything, "duration_ms", share))
        for share in (0.5, 0.95, 0.99)
    ]
    if of_all_calls:
        # What neither takes, such as a slow upload, is the caller's own.
        latency.append(ChartSeries(name="Upstream, p95", values=_percentiles(everything, "upstream_ms", 0.95)))
        latency.append(ChartSeries(name="Gateway, p95", values=_percentiles(everything, "overhead_ms", 0.95)))
    return Charts(
        times=[moment.isoformat() for moment in series.bins],
        step=reading.step.total_seconds(),
        start=series.start.isoformat(),
        end=series.end.isoformat(),
        calls=outcomes,
        dollars=_dollars_by_model(series.by_value[Dimension.MODEL], reading.model_lines),
        tokens=_tokens(everything),
        latency=latency,
    )


def _tokens(everything: TotalsByBin) -> list[ChartSeries]:
    uncached = _values(everything, lambda totals: totals.input_tokens - totals.cached_tokens)
    return [
        ChartSeries(name="Input, not cached", values=uncached),
        ChartSeries(name="Input, cached", values=_values(everything, lambda totals: totals.cached_tokens)),
        ChartSeries(name="Output", values=_values(everything, lambda totals: totals.output_tokens)),
    ]


def _dollars_by_model(costs: Mapping[str, Sequence[float | Decimal]], lines: Mapping[str, str]) -> list[ChartSeries]:
    """Returns the lines of the chart of dollars: one for each of the costliest models, and one for all other models.

    `costs` maps names of models to their dollars in each bin of time. A model's names with and without a date share a
    line, charted as "gpt-4.1 (any date)": `lines` maps each of them to the line's name. Models that cost nothing are
    left out.
    """
    joined: dict[str, list[Decimal]] = {}
    for name, values in costs.items():
        line = lines.get(name, name)
        before = joined.get(line, [Decimal(0)] * len(values))
        joined[line] = [one + Decimal(other) for one, other in zip(before, values, strict=True)]
    ranked = sorted((name for name, values in joined.items() if any(values)), key=lambda name: -sum(joined[name]))
    common = set(lines.values())
    charted = [
        ChartSeries(name=f"{name}{ANY_DATE}" if name in common else name or "no model", values=_dollars(joined[name]))
        for name in ranked[:MAX_CHART_SERIES]
    ]
    if rest := ranked[MAX_CHART_SERIES:]:
        sums = [sum(values, Decimal(0)) for values in zip(*(joined[name] for name in rest), strict=True)]
        charted.append(ChartSeries(name=formatting.others(len(rest)), values=_dollars(sums)))
    return charted


def _dollars(values: Sequence[Decimal]) -> list[float]:
    return [round(float(value), 8) for value in values]


def _values(line: TotalsByBin, read: Callable[[Totals], float]) -> list[float]:
    """Returns the values of a line in a chart, one for each bin of time; 0 for a bin without calls.

    The function `read` takes the totals of a bin and returns its value.
    """
    return [read(totals) if totals else 0 for totals in line]


def _percentiles(line: TotalsByBin, column: str, share: float) -> list[float | None]:
    return [totals.percentile(column, share) if totals else None for totals in line]
