"""An update of the price list: what is refused, how it is stored, and that every process of the host takes it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from tests.support.ledger.published_list import models_of, published
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream
from usage.prices import genai_price_list
from usage.prices.genai_price_list import bundled, in_use
from usage.prices.price_lookup import find_rates, listed_models
from usage.upkeep.price_update import EVERY_SECONDS, UpdateFailed, update, update_if_due
from usage.upkeep.price_update_thread import PriceUpdates

NOW = datetime.now(UTC)
GONE = "http://127.0.0.1:1"
LIST = published()


@pytest.fixture
def site() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as site:
        publish(site, LIST)
        yield site


@pytest.fixture(autouse=True)
def host(tmp_path: Path, settings: LazySettings, site: FixedUpstream) -> Iterator[Path]:
    """A host whose list is published by `site`."""
    settings.DATA_DIR, settings.PRICES_URL = tmp_path, site.base_url
    yield tmp_path
    (tmp_path / genai_price_list.FILE_NAME).unlink(missing_ok=True)
    genai_price_list.refresh()
    assert in_use() is bundled()


def publish(site: FixedUpstream, vendors: Any) -> None:
    site.body = json.dumps(vendors).encode()


def with_new_model(dollars: float = 3) -> list[dict[str, Any]]:
    vendors = published()
    models = next(vendor["models"] for vendor in vendors if vendor["id"] == "openai")
    models.append({"id": "gpt-77", "match": {"equals": "gpt-77"}, "prices": {"input_mtok": dollars, "output_mtok": 12}})
    return vendors


def price_of(model: str) -> Decimal | None:
    found = find_rates(model, "default", NOW, ())
    rate = None if found is None else found.rate("output", 1)
    assert rate is None or isinstance(rate, Decimal)
    return rate


def test_it_works(site: FixedUpstream, host: Path) -> None:
    assert price_of("gpt-77") is None
    publish(site, with_new_model())
    new = update()

    assert in_use().source == new.source == f"genai-prices, list of {datetime.now(UTC):%Y-%m-%d}"
    assert price_of("gpt-77") == 12
    assert "gpt-77" in listed_models()
    assert os.listdir(host) == [genai_price_list.FILE_NAME]


def test_the_same_list_says_the_same() -> None:
    """Also of other vendors, and in each tier."""
    names = [info.id for vendor in bundled().vendors for info in vendor.models]
    tiers = ("default", "flex", "priority", "batch")

    def prices() -> dict[tuple[str, str], Any]:
        found = {(name, tier): find_rates(name, tier, NOW, ()) for name in names for tier in tiers}
        return {one: rates and (rates.rates, rates.per_minute, rates.per_web_search) for one, rates in found.items()}

    before = prices()
    update()
    assert in_use() is not bundled()
    assert prices() == before


def removed(name: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(vendors: list[dict[str, Any]]) -> None:
        [openai] = [vendor for vendor in vendors if vendor["id"] == "openai"]
        openai["models"] = [model for model in openai["models"] if model["id"] != name]

    return change


def priced(name: str, **prices: float | None) -> Callable[[list[dict[str, Any]]], None]:
    def change(vendors: list[dict[str, Any]]) -> None:
        models_of(vendors)[name]["prices"].update(prices)

    return change


def without_days(vendors: list[dict[str, Any]]) -> None:
    """As a list of years ago."""
    for model in models_of(vendors).values():
        model.pop("price_variants", None)
        if isinstance(model["prices"], list):
            model["prices"] = model["prices"][0]["prices"]


@pytest.mark.parametrize(
    ("change", "words", "is_certain"),
    [
        (removed("whisper-1"), "it lacks whisper-1", False),
        (priced("gpt-4o", output_mtok=1000), r"moved .* gpt-4o output_mtok \$10 → \$1000", False),
        (priced("gpt-4o", input_mtok=0.0001), r"moved .* gpt-4o input_mtok \$2.5 → \$0.0001", False),
        (priced("gpt-4o", output_mtok=None), r"moved .* gpt-4o output_mtok \$10 → none", False),
        (priced("gpt-4o", output_mtok=50_000), r"prices above \$10,000 of gpt-4o", True),
        (without_days, "it is older than the one in use: its newest price is of", True),
        (list.clear, "not one of genai-prices'", True),
        (lambda vendors: vendors[0].pop("id"), "not one of genai-prices'", True),
    ],
)
def test_what_is_refused(
    site: FixedUpstream, host: Path, change: Callable[[list[dict[str, Any]]], None], words: str, *, is_certain: bool
) -> None:
    vendors = published()
    change(vendors)
    publish(site, vendors)
    with pytest.raises(UpdateFailed, match=words) as refused:
        update()
    assert "\n" not in str(refused.value)
    assert in_use() is bundled()
    assert os.listdir(host) == []
    if is_certain:
        with pytest.raises(UpdateFailed, match=words):
            update(accepts_changes=True)
    else:
        assert update(accepts_changes=True) is not bundled()


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1]", b'{"a": [', b"null"])
def test_another_answer_is_refused(site: FixedUpstream, body: bytes) -> None:
    site.body = body
    with pytest.raises(UpdateFailed, match="the list is no"):
        update()


def test_without_a_connection_it_is_one_line(site: FixedUpstream, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UpdateFailed, match=r"^the list cannot be downloaded: ConnectError$"):
        update(GONE)
    site.status = 503
    with pytest.raises(UpdateFailed, match=r"^the list cannot be downloaded: status 503$"):
        update()
    assert not update_if_due()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("usage")] == [
        "the price list was not updated: the list cannot be downloaded: status 503"
    ]


def test_a_full_or_foreign_disk_is_one_line(host: Path) -> None:
    (host / genai_price_list.FILE_NAME).mkdir()
    with pytest.raises(UpdateFailed, match=r"^the list cannot be stored: Is a directory$"):
        update()
    assert os.listdir(host) == [genai_price_list.FILE_NAME]
    (host / genai_price_list.FILE_NAME).rmdir()


def test_only_one_process_of_a_host_downloads_and_not_often(site: FixedUpstream, host: Path) -> None:
    assert update_if_due()
    assert not update_if_due()
    assert len(site.asked) == 1
    lock = host / "prices.lock"
    long_ago = NOW.timestamp() - EVERY_SECONDS - 1
    os.utime(lock, (long_ago, long_ago))
    with lock.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not update_if_due()
    assert update_if_due()
    later = (NOW + timedelta(days=900)).timestamp()  # by a clock that was wrong
    os.utime(lock, (later, later))
    assert update_if_due()
    assert len(site.asked) == 3


def test_another_process_takes_the_list_and_its_absence(site: FixedUpstream, host: Path) -> None:
    """As after a restart, and within the half minute after which the prices are read again."""
    publish(site, with_new_model())
    content = genai_price_list.as_file(with_new_model(), NOW)
    (host / genai_price_list.FILE_NAME).write_bytes(content)
    genai_price_list.refresh()
    assert price_of("gpt-77") == 12
    kept = in_use()
    genai_price_list.refresh()
    assert in_use() is kept

    (host / genai_price_list.FILE_NAME).unlink()
    genai_price_list.refresh()
    assert price_of("gpt-77") is None


def test_a_process_that_prices_nothing_loads_no_list(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / genai_price_list.FILE_NAME).write_bytes(genai_price_list.as_file(with_new_model(), NOW))
    monkeypatch.setattr("usage.prices.genai_price_list._InUse.prices", None)
    monkeypatch.setattr("usage.prices.genai_price_list._InUse.file_state", None)
    genai_price_list.refresh(loads_list=False)
    assert genai_price_list._InUse.prices is None
    assert price_of("gpt-77") == 12

    (host / genai_price_list.FILE_NAME).unlink()
    genai_price_list.refresh(loads_list=False)
    assert price_of("gpt-77") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"genai_prices": 1, "vendors": {}, "fetched_at": ""}'])
def test_a_damaged_file_is_no_list(host: Path, content: bytes) -> None:
    (host / genai_price_list.FILE_NAME).write_bytes(content)
    genai_price_list.refresh()
    assert in_use() is bundled()


def test_another_version_of_the_package_begins_with_its_own_list(host: Path) -> None:
    stored = json.loads(genai_price_list.as_file(with_new_model(), NOW))
    (host / genai_price_list.FILE_NAME).write_text(json.dumps({**stored, "genai_prices": "0.0.1"}))
    genai_price_list.refresh()
    assert in_use() is bundled()


def test_it_is_off_by_default(settings: LazySettings, site: FixedUpstream) -> None:
    assert not settings.PRICES_UPDATE
    updates = PriceUpdates()
    updates.start()
    updates.stop()
    assert not updates.is_running
    assert site.asked == []


def test_the_thread_updates_and_stops(
    settings: LazySettings, site: FixedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PRICES_UPDATE = True
    monkeypatch.setattr(PriceUpdates, "first_seconds", 0.0)
    publish(site, with_new_model())
    updates = PriceUpdates()
    updates.start()
    wait_until(lambda: in_use() is not bundled())
    updates.stop()
    assert not updates.is_running
    assert price_of("gpt-77") == 12


@pytest.mark.django_db(transaction=True)
def test_the_command(site: FixedUpstream) -> None:
    publish(site, with_new_model())
    shown = StringIO()
    call_command("prices", "update", stdout=shown)
    assert shown.getvalue().startswith(f"genai-prices, list of {datetime.now(UTC):%Y-%m-%d}, is in use: ")
    assert shown.getvalue().endswith("models that are new: 1\n")

    status = StringIO()
    call_command("prices", "status", stdout=status)
    first, second, *_ = status.getvalue().splitlines()
    assert first.startswith("genai-prices, list of ")
    assert second.startswith(f"Downloaded: {datetime.now(UTC):%Y-%m-%d} (0 days ago); automatic updates: off")
    with pytest.raises(CommandError, match="cannot be downloaded"):
        call_command("prices", "update", "--url", GONE)
    vendors = with_new_model()
    removed("gpt-4o")(vendors)
    publish(site, vendors)
    with pytest.raises(CommandError, match="it lacks gpt-4o"):
        call_command("prices", "update")
    call_command("prices", "update", "--accept-changes", stdout=StringIO())


def test_a_server_prices_calls_by_the_list_that_its_host_has(
    site: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("newer")
    (directory / genai_price_list.FILE_NAME).write_bytes(genai_price_list.as_file(with_new_model(), NOW))
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    publish(site, {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-77", "choices": [], "usage": usage})
    with run_gateway(site.base_url, gateway_database, directory) as gateway:
        row = gateway.row(gateway.post("/openai", {"model": "gpt-77", "messages": [{"role": "user", "content": "hi"}]}))
    assert row["cost"] == Decimal("0.0042")  # 1,000 at $3 and 100 at $12 a million
    assert row["price"]["source"] == f"genai-prices, list of {NOW:%Y-%m-%d}"
