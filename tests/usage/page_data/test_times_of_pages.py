"""Each time after which a page stops reading is long in tests, so that a busy machine makes no page incomplete."""

from __future__ import annotations

import importlib
import pkgutil

import usage.page_data
from tests.support.polling import PATIENCE, TIMES_OF_PAGES

# Times that leave out nothing: they make a part of the work larger or smaller, or are compared with a journal's lag.
OTHERS = {
    "usage.page_data.call_search.index_scan.SLICE_SECONDS",
    "usage.page_data.call_search.word_search.BATCH_SECONDS",
    "usage.page_data.dashboard.dashboard_tiles.MAX_HEALTHY_LAG_SECONDS",
    "usage.page_data.search.BATCH_SECONDS",
}


def test_it_works() -> None:
    found = {
        f"{module.name}.{name}"
        for module in pkgutil.walk_packages(usage.page_data.__path__, "usage.page_data.")
        for name in vars(importlib.import_module(module.name))
        if name.endswith("_SECONDS")
    }
    assert found - OTHERS == {name for name in TIMES_OF_PAGES if name.startswith("usage.page_data.")}


def test_they_are_long() -> None:
    for path in TIMES_OF_PAGES:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) == PATIENCE, path
