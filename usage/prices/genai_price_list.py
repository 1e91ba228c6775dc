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
from typing import TYPE_CHECKING

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

    `source` is the name of the list, which the rows of calls state as the source of their price. `fetched_at` is the
    time of the download; None for the list that is part of the installed package.
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
        """The latest date on which one of OpenAI's prices in this list begins; `date.min` if no price has a date."""
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
    """Returns the price list of the installed package genai-prices, which is loaded at the first call."""
    from genai_prices.data import providers

    return PriceList(providers, f"genai-prices {VERSION}")


class _InUse:
    """The price list that this process uses (`prices`), and the state of the file of the downloaded list.

    `prices` is None until a price is needed. `file_state` is the modification time, size and inode that the file had
    when it was last read. It is None if there is no file; the list of the installed package is used then.
    """

    prices: PriceList | None = None
    file_state: tuple[int, int, int] | None = None


def in_use() -> PriceList:
    """Returns the price list that this process uses now; loads it when first called.

    This is the downloaded list or, if there is none, the one of the installed package.
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
    """Returns the path of the file in which the downloaded price list is stored."""
    return Path(settings.DATA_DIR) / FILE_NAME


def refresh(*, loads_list: bool = True) -> None:
    """Makes this process use the newest price list: the downloaded one or, if there is none, the installed package's.

    An unreadable file is logged, and the present list stays in use. With `loads_list` false, nothing is done if this
    process has no list yet. An unchanged file costs one `stat`.
    """
    if loads_list or _InUse.prices is not None:
        _read_file()
        in_use()


def _read_file() -> None:
    """Puts the downloaded price list into use, if its file has changed since it was last read.

    If the file is gone, or was stored by another version of the package genai-prices, the installed package's list is
    used. An unreadable file is logged, and changes nothing.
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
    """Parses the content of a file that stores a downloaded price list, as `as_file` makes it; returns the price list.

    Returns None if another version of the package genai-prices has stored the file.

    Raises:
        ValueError, KeyError, TypeError: the content is no stored price list.
    """
    stored = json.loads(content)
    if stored["genai_prices"] != VERSION:
        return None
    return parse(stored["vendors"], datetime.fromisoformat(stored["fetched_at"]))


def parse(raw: Sequence[Mapping[str, object]], fetched_at: datetime) -> PriceList:
    """Parses a price list that genai-prices publishes as JSON; leaves out vendors whose prices are not used.

    Raises:
        ValueError, KeyError, TypeError: `raw` is no list of prices, or OpenAI's prices are missing.
    """
    # What genai-prices' own updater parses a list with; there is no public name for it.
    from genai_prices.types import _providers_from_raw

    vendors = _providers_from_raw(known_vendors(raw))
    if OPENAI not in {vendor.id for vendor in vendors}:
        raise ValueError("it has no prices of OpenAI's")
    return PriceList(vendors, f"genai-prices, list of {fetched_at:%Y-%m-%d}", fetched_at)


def known_vendors(raw: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Returns a published price list's entries for the vendors used here, without the unneeded member `extractors`."""
    # `extractors` read usage from answers, which nobody needs here.
    return [
        {name: value for name, value in vendor.items() if name != "extractors"}
        for vendor in raw
        if vendor["id"] in {OPENAI, *SOLE_SELLERS}
    ]


def as_file(raw: Sequence[Mapping[str, object]], fetched_at: datetime) -> bytes:
    """Returns the content of the file that stores a downloaded price list; `read` parses it."""
    vendors = known_vendors(raw)
    return json.dumps({"genai_prices": VERSION, "fetched_at": fetched_at.isoformat(), "vendors": vendors}).encode()
