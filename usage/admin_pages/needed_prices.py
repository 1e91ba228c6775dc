"""The page *Needs a price*: models whose calls need a price, with links to the filled-in form of a custom price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseBase

from usage.admin_pages.access import admin_page, render_page
from usage.admin_pages.dashboard import range_query
from usage.models import ModelPrice
from usage.sums.ranges import range_labels, range_or_default
from usage.sums.unpriced_calls import NeededPrice, read_needed_prices

PROPOSED = "proposed"  # in the address of the form of a custom price: its prices are a proposal


@dataclass(frozen=True)
class NeededPriceLine:
    """One line on the page of needed prices: a model and tier, the proposed price, and a query string for a link.

    The link opens the form of a custom price, which the query string fills in with the proposed price.
    """

    of: NeededPrice
    rates: Iterable[tuple[str, str]]  # pairs of a label, as in the form of a custom price, and dollars as text
    form: str  # the query string with which the form opens filled in


@admin_page
def show(request: HttpRequest) -> HttpResponseBase:
    """Answers with the page *Needs a price*: how many calls of each model and service tier lack a price."""
    time_range, fault = range_or_default(request.GET, datetime.now(UTC))
    needed = read_needed_prices(time_range)
    return render_page(
        request,
        "admin/usage/needed_prices.html",
        "Needs a price",
        fault=fault,
        needed=[_line(price) for price in needed],
        calls=sum(price.calls for price in needed),
        since=min((price.first_at for price in needed), default=None),
        ranges=range_labels(time_range.name),
        time_range=time_range,
        query=range_query(time_range),
        may_add=request.user.has_perm("usage.add_modelprice"),
    )


def _line(price: NeededPrice) -> NeededPriceLine:
    fields = {field.name: str(field.verbose_name) for field in ModelPrice._meta.concrete_fields}
    rates = [(fields[name].capitalize(), f"${rate.normalize():f}") for name, rate in price.proposed.items()]
    return NeededPriceLine(price, rates, urlencode({**price.as_form(), **({PROPOSED: "1"} if rates else {})}))
