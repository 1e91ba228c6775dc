"""The list of genai-prices from which prices are taken: the installed package's, or a newer one that was downloaded.

The package is loaded when the first price is needed, not with this module: it takes 10 MB and a third of a second, and
a worker without calls of keys with budgets needs no prices.

`usage.upkeep.price_update` downloads a list, checks it and replaces the file `DATA_DIR/prices.json`, which every
process of the host reads (`refresh`): when it starts, and whenever the file has changed. A file that was downloaded
with another version of the package is ignored, because a new version of the package has a newer list of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from genai_prices.types import Provider

logger = logging.getLogger(__name__)

FILE_NAME = "prices.json"
VERSION = metadata.version("genai-prices")
OPENAI = "openai"
SOLE_SELLERS = frozenset({"anthropic", "google", "x-ai"})  # vendors of models that nobody else sells by their names


@dataclass(frozen=True, eq=False)
class PriceList:
    """One version of the list of model prices that the package genai-prices publishes, for the vendors used here.

    `source` is the list's name, as stored in the rows of calls that it has priced. `fetched_at` is None for the list
    that is part of the installed package.
    """

    vendors: Sequence[Provider]
    source: str
    fetched_at: datetime | None = None

    @property
    def openai(self) -> Provider:
        """OpenAI's entry in this list, with the prices of its models."""
        return next(vendor for vendor in self.vendors if vendor.id == OPENAI)

    @property
    def newest_price(self) -> date:
        """The latest date on which a price of OpenAI's in this list begins; `date.min` if the list has no dates."""
        from genai_prices.types import StartDateConstraint  # loaded already, since its list is

        days = [date.min]
        for info in self.openai.models:
            conditional = info.prices if isinstance(info.prices, list) else []
            for priced in (*conditional, *(info.price_variants or ())):
                if isinstance(priced.constraint, StartDateConstraint):
                    days.append(priced.constraint.start_date)
        return max(days)


@cache
def bundled() -> PriceList:
    """Returns the price list of the installed package genai-prices; the first call loads the list."""
    from genai_prices.data import providers

    return PriceList(providers, f"genai-prices {VERSION}")


class _InUse:
    """Holder of the price list that this process uses (`prices`), and of the state of the file it was read from.

    `prices` is None until a list is needed. `file_state` has the modification time, size and inode that the downloaded
    list's file had; None if there is no such file, and the list is that of the installed package.
    """

    prices: PriceList | None = None
    file_state: tuple[int, int, int] | None = None


def in_use() -> PriceList:
    """Returns the price list that this process uses now; the first call loads it.

    This is the downloaded list or, if there is none, that of the installed package.
    """
    if _InUse.prices is None:
        _read_file()
        _InUse.prices = _InUse.prices or bundled()
    return _InUse.prices


@lru_cache(maxsize=4)
def names_in(prices: PriceList) -> frozenset[str]:
    """Returns the names of all OpenAI models in a price list."""
    return frozenset(info.id for info in prices.openai.models)


def file() -> Path:
    """Returns the path of the file that stores a downloaded price list."""
    return Path(settings.DATA_DIR) / FILE_NAME


def refresh(*, loads_list: bool = True) -> None:
    """Makes this process use the downloaded price list or, if there is none, the installed package's list.

    An unchanged file costs one `stat`. An unreadable file is logged, and the present list stays in use. If this process
    has no list yet, one is loaded now, so that no call has to wait; with `loads_list` false, it is loaded when a price
    is needed.
    """
    if loads_list or _InUse.prices is not None:
        _read_file()
        in_use()


def _read_file() -> None:
    """Reads the downloaded price list from its file, if the file has changed since the last time.

    If the file is gone, the installed package's list is used again. An unreadable file is logged.
    """
    try:
        found = file().stat()
    except OSError:
        if _InUse.file_state is not None:
            _InUse.prices, _InUse.file_state = bundled(), None
        return
    state = (found.st_mtime_ns, found.st_size, found.st_ino)
    if state == _InUse.file_state:
        return
    _InUse.file_state = state
    try:
        _InUse.prices = read(file().read_bytes()) or bundled()
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the downloaded price list cannot be read: %s", type(error).__name__)


def read(content: bytes) -> PriceList | None:
    """Parses the content of a stored price list, which `as_file` has made.

    Returns None if another version of genai-prices has stored it.

    Raises:
        ValueError, KeyError, TypeError: the content is no stored price list.
    """
    stored = json.loads(content)
    if stored["genai_prices"] != VERSION:
        return None
    return parse(stored["vendors"], datetime.fromisoformat(stored["fetched_at"]))


def parse(raw: Sequence[Mapping[str, Any]], fetched_at: datetime) -> PriceList:
    """Parses the JSON of a published price list of genai-prices; leaves out vendors that the ledger does not use.

    Raises:
        ValueError, KeyError, TypeError: `raw` is no list of prices, or OpenAI's prices are missing.
    """
    # What genai-prices' own updater parses a list with; there is no public name for it.
    from genai_prices.types import _providers_from_raw

    vendors = _providers_from_raw(known_vendors(raw))
    if OPENAI not in {vendor.id for vendor in vendors}:
        raise ValueError("it has no prices of OpenAI's")
    return PriceList(vendors, f"genai-prices, list of {fetched_at:%Y-%m-%d}", fetched_at)


def known_vendors(raw: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the entries of a published price list for the vendors that this ledger uses, without `extractors`."""
    # `extractors` read usage from answers, which nobody needs here.
    return [
        {name: value for name, value in vendor.items() if name != "extractors"}
        for vendor in raw
        if vendor["id"] in {OPENAI, *SOLE_SELLERS}
    ]


def as_file(raw: Sequence[Mapping[str, Any]], fetched_at: datetime) -> bytes:
    """Makes the bytes of a file for a downloaded price list, which `read` parses."""
    vendors = known_vendors(raw)
    return json.dumps({"genai_prices": VERSION, "fetched_at": fetched_at.isoformat(), "vendors": vendors}).encode()
