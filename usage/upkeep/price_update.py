"""Downloads a newer list of prices from genai-prices, and puts it into use for all processes of this host.

A list is refused, and the present list stays in use, if

* it cannot be parsed, or is older than the present list: its newest price is of an earlier day;
* a model of OpenAI that the installed package lists is missing;
* a price of such a model differs by more than a factor of `MOST_CHANGE` from that in the package, or any price is above
  `HIGHEST_RATE`.

A new list is compared with the package's list, which was checked for its release. If it were compared with the present
list, prices could drift away in steps. No call waits for any of this: a thread of the shipper's process downloads the
list for all processes of its host (`usage.upkeep.price_update_thread`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx2
from django.conf import settings
from genai_prices.types import ModelInfo, TieredPrices
from genai_prices.update_prices import DEFAULT_UPDATE_URL

from usage.prices import genai_price_list
from usage.prices.genai_price_list import PriceList, bundled
from usage.prices.published_prices import TOKEN_PRICES

logger = logging.getLogger(__name__)

MOST_CHANGE = 20
HIGHEST_RATE = Decimal(10_000)  # dollars for a million tokens; the dearest model of 2026 takes $600
MOST_BYTES = 32 * 1024 * 1024  # the list had 2 MB in 2026
TIMEOUT = httpx2.Timeout(30, connect=5)
MOST_NAMED = 5  # models in a message
EVERY_SECONDS = 6 * 3600.0  # between updates of a host
OTHER_PRICES = ("input_audio_hours", "audio_hours", "web_searches_kcount", "storage_searches_kcount")


class UpdateFailed(Exception):
    """Error: the price list was not updated. The message says why, in one line."""


def update(url: str = "", *, accepts_changes: bool = False) -> PriceList:
    """Downloads a price list, checks it, and puts it into use for all processes of this host; returns the list.

    `url` is by default `PRICES_URL` or, if that is empty, genai-prices' own address. With `accepts_changes`, models may
    be missing, and prices may have changed very much. A list that is older than the present one, or has a price of an
    OpenAI model above `HIGHEST_RATE`, is refused in any case.

    Raises:
        UpdateFailed: the list was not downloaded, was refused, or cannot be stored; the earlier list stays in use.
    """
    raw = download(url or settings.PRICES_URL or DEFAULT_UPDATE_URL)
    fetched_at = datetime.now(UTC)
    try:
        new = genai_price_list.parse(raw, fetched_at)
        found = faults(new, accepts_changes=accepts_changes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UpdateFailed(f"the list is not one of genai-prices': {type(error).__name__}") from None
    if found:
        raise UpdateFailed(f"the list was refused: {'; '.join(found)}")
    try:
        _replace(genai_price_list.file(), genai_price_list.as_file(raw, fetched_at))
    except OSError as error:
        raise UpdateFailed(f"the list cannot be stored: {error.strerror}") from None
    genai_price_list.refresh()
    return new


def download(url: str) -> list[dict[str, object]]:
    """Downloads a price list from `url`; returns its vendors, each as a JSON object.

    Raises:
        UpdateFailed: the download failed, or its content is too large, no JSON, or no array of objects.
    """
    content = bytearray()
    try:
        with httpx2.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise UpdateFailed(f"the list has more than {MOST_BYTES // 1024**2} MB")
        raw = json.loads(content)
    except httpx2.HTTPStatusError as error:
        raise UpdateFailed(f"the list cannot be downloaded: status {error.response.status_code}") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UpdateFailed(f"the list cannot be downloaded: {type(error).__name__}") from None
    except ValueError:
        raise UpdateFailed("the list is no JSON") from None
    if not isinstance(raw, list) or not all(isinstance(vendor, dict) for vendor in raw):
        raise UpdateFailed("the list is no array of vendors")
    return raw


def faults(new: PriceList, *, accepts_changes: bool = False) -> list[str]:
    """Checks a downloaded price list; returns the reasons to refuse it as texts, or an empty list.

    There are four reasons: the list is older than the one in use or in the package; a price of an OpenAI model is above
    `HIGHEST_RATE`; an OpenAI model that the package lists is missing; a price of such a model is missing, or has
    changed by more than `MOST_CHANGE` times. With `accepts_changes`, only the first two are checked.
    """
    found = []
    newest = max(bundled().newest_price, genai_price_list.in_use().newest_price)
    if new.newest_price < newest:
        found.append(f"it is older than the one in use: its newest price is of {new.newest_price}, not of {newest}")
    high = [info.id for info in new.openai.models if any(rate > HIGHEST_RATE for rate in _rates(info).values())]
    if high:
        found.append(f"prices above ${HIGHEST_RATE:,} of {_some(high)}")
    if accepts_changes:
        return found
    by_id = {info.id: info for info in new.openai.models}  # an id need not be a name that the model answers to
    pairs = [(known, by_id.get(known.id) or new.openai.find_model(known.id)) for known in bundled().openai.models]
    if missing := [known.id for known, listed in pairs if listed is None]:
        found.append(f"it lacks {_some(missing)}")
    if moved := [text for known, listed in pairs if listed is not None and (text := _large_change(known, listed))]:
        found.append(f"prices moved by more than {MOST_CHANGE} times: {_some(moved)}")
    return found


def _large_change(known: ModelInfo, listed: ModelInfo) -> str:
    """Compares a model's prices in two lists; returns a description of the first price that has changed too much.

    An example is `gpt-5 output_mtok $10 → $1000`. Too much means a factor of more than `MOST_CHANGE`, or that the
    second list has no such price. Returns an empty text if there is no such change.
    """
    before, after = _rates(known), _rates(listed)
    for name, rate in before.items():
        now = after.get(name, Decimal(0))
        if rate and not rate / MOST_CHANGE <= now <= rate * MOST_CHANGE:
            return f"{known.id} {name} ${rate.normalize():f} → {f'${now.normalize():f}' if name in after else 'none'}"
    return ""


def _rates(info: ModelInfo) -> dict[str, Decimal]:
    """Returns today's prices of a model in the default tier, as a map from genai-prices' names of units to dollars.

    If a price depends on the length of the prompt, the map has the price of short prompts.
    """
    prices = info.get_prices(datetime.now(UTC))
    stated = {name: getattr(prices, name, None) for name in (*TOKEN_PRICES.values(), *OTHER_PRICES)}
    rates = {name: rate.base if isinstance(rate, TieredPrices) else rate for name, rate in stated.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}


def _some(names: list[str]) -> str:
    """Returns names as text for an error message: the first `MOST_NAMED`, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _replace(path: Path, content: bytes) -> None:
    """Replaces a file's content in one step, so that readers find either the old or the new content.

    Raises:
        OSError: the file cannot be written; the old content stays.
    """
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with written.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def update_if_due() -> bool:
    """Updates the price list, unless a process of this host has tried to in the last `EVERY_SECONDS`.

    Returns whether the list was updated. A failure is logged.
    """
    with _attempt(genai_price_list.file().with_suffix(".lock")) as is_due:
        if not is_due:
            return False
        try:
            new = update()
        except UpdateFailed as error:
            logger.warning("the price list was not updated: %s", error)
            return False
        logger.info("the price list was updated: its newest price is of %s", new.newest_price)
        return True


@contextmanager
def _attempt(path: Path) -> Iterator[bool]:
    """Context manager that yields whether this process should try to update the price list now; records the try if so.

    Yields False if the last try was less than `EVERY_SECONDS` ago, or if another process is trying. The processes of a
    host use the file `path` for this: its lock, and its modification time, which is that of the last try.
    """
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        last = os.fstat(stream.fileno())
        is_first = last.st_size == 0
        is_due = is_first or not 0 <= time.time() - last.st_mtime < EVERY_SECONDS
        if is_due:
            stream.truncate(0)
            stream.write(b"The time of this file is that of the last attempt to update the price list.\n")
            stream.flush()
            # The file keeps the time of the last attempt.
            os.utime(stream.fileno())
        yield is_due
