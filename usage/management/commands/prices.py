"""`python manage.py prices …`: shows the age of the price lists and the models they lack, and updates the list."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, date, datetime
from typing import TypedDict, Unpack

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from usage.number_words import counted, plural
from usage.prices.genai_price_list import in_use, names_in
from usage.prices.published_prices import ModelRates
from usage.upkeep.price_status import LackingPrice, lacking_prices, price_lists
from usage.upkeep.price_update import UpdateFailed, update

PROPOSED_UNITS = ("input", "cached_input", "output", "audio_input", "characters")


class PricesOptions(TypedDict, total=False):
    """The parsed options of `manage.py prices`. `url` and `accept_changes` are present only for the action `update`."""

    action: str
    url: str
    accept_changes: bool


class Command(BaseCommand):
    help = "Shows how old the price lists are, and which models of the last 30 days they lack; updates the list."
    requires_system_checks = ()  # they would load the admin, which takes as long as all else of a start

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="show the age of the price lists, and what they lack of the last 30 days")
        newer = actions.add_parser("update", help="download the newest list of genai-prices, and use it")
        newer.add_argument("--url", default="", help="of the list; default: PRICES_URL, else genai-prices' own")
        newer.add_argument(
            "--accept-changes", action="store_true", help="also if models are missing or prices quite different"
        )

    def handle(self, *_args: object, **options: Unpack[PricesOptions]) -> None:
        """Runs the action of the command `prices` that was chosen: `update` or `status`.

        Raises:
            CommandError: the action failed.
        """
        if options["action"] == "update":
            self.update(options["url"], accepts_changes=options["accept_changes"])
        else:
            self.status()

    def update(self, url: str, *, accepts_changes: bool) -> None:
        """Downloads a newer price list, puts it into use, and prints facts about it.

        These are its source, the day of its newest price, and the number of models that are new. `url` is the address
        of the list; if it is empty, the address is `PRICES_URL` or genai-prices' own. With `accepts_changes`, the list
        is accepted even if models are missing or prices have changed very much.

        Raises:
            CommandError: no list was downloaded, or the list was refused or cannot be stored.
        """
        before = names_in(in_use())
        try:
            new = update(url, accepts_changes=accepts_changes)
        except UpdateFailed as error:
            raise CommandError(str(error)) from None
        added = len(names_in(new) - before)
        newest = _day(new.newest_price, datetime.now(UTC).date())
        self.stdout.write(f"{new.source}, is in use: its newest price is of {newest}; models that are new: {added}")

    def status(self) -> None:
        """Prints the source and age of the price lists, and the models whose price is missing or only assumed.

        The models are those of calls of the last 30 days, one line for each model and service tier.
        """
        lists = price_lists()
        today = datetime.now(UTC).date()
        self.stdout.write(f"{lists.source}: its newest price is of {_day(lists.newest_price, today)}")
        downloaded = "never" if lists.fetched_at is None else _day(lists.fetched_at.date(), today)
        automatic = "on" if settings.PRICES_UPDATE else "off (PRICES_UPDATE)"
        self.stdout.write(f"Downloaded: {downloaded}; automatic updates: {automatic}")
        self.stdout.write(f"{lists.corrections} corrections, read up to {_day(lists.corrections_read, today)}")
        lacking = lacking_prices()
        for heading, is_provisional in (("Needs a price", False), ("Has an assumed price", True)):
            lines = [_line(one) for one in lacking if one.is_provisional == is_provisional]
            self.stdout.write(f"\n{heading}, last 30 days: {'' if lines else 'none'}".rstrip())
            for line in lines:
                self.stdout.write(line)


def _day(day: date, today: date) -> str:
    """Returns a day as text, with the days since then: `2026-11-03 (25 days ago)`."""
    return f"{day} ({counted((today - day).days, 'day')} ago)"


def _line(lacking: LackingPrice) -> str:
    """Returns the line of text that `prices status` prints for a model whose price is missing or assumed.

    The line has the number of calls, the model's name, the service tier, and a price that an administrator could enter,
    if one is known.
    """
    proposal = "no similar model is listed" if lacking.proposal is None else _proposal(lacking.proposal)
    calls = f"{lacking.calls:>8,} {plural(lacking.calls, 'call'):5}"
    return f"{calls}  {lacking.model or '(no model)'}  {lacking.tier}  {proposal}"


def _proposal(price: ModelRates) -> str:
    """Returns a model's price as a proposal in words, such as `like gpt-6.2-sol: input $2, output $10 a million`.

    Dollars are for a million tokens or characters, for a minute of audio, or for the most expensive kind of picture.
    """
    rates = [
        f"{unit} ${rate.normalize():f}" for unit in PROPOSED_UNITS if (rate := price.rates and price.rate(unit, 1))
    ]
    minute = [] if price.per_minute is None else [f"${price.per_minute.normalize():f} a minute"]
    pictures = [f"${rate.normalize():f} a picture" for rate in sorted((price.per_picture or {}).values())[-1:]]
    text = ", ".join(rates) + " a million" * bool(rates)
    return f"like {price.model}: {', '.join([*filter(None, [text]), *minute, *pictures])}"
