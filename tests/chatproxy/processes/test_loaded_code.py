"""What processes do not load, because they can do without: the memory of an idle server is nearly all code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR, NO_ENV_FILES
from chatproxy.management.commands.serve import LOADED_BY_WORKERS

PAGES = {"chatproxy.urls", "usage.admin_pages", "proxyapi.pages.my_usage", "unfold.admin"}
# By /openapi.json, by /metrics and by /api.
ASKED_FOR = {"drf_spectacular.generators", "prometheus_client", "proxyapi.management.api_actions"}
UNUSED = {"requests", "pygments", "yaml"}  # Django REST framework would load them
PACKAGES = {
    "openai",
    "pydantic",
    "httpx2",
    "genai_prices",
    "redis",
    "psycopg",
    "django.db",
    *PAGES,
    *ASKED_FOR,
    *UNUSED,
}
PRINT_LOADED = f"; print(*({PACKAGES} & {{*sys.modules}}))"
END = "; sys.stdout.flush(); os._exit(0)"  # without what gunicorn's master does at its exit
WORKER = "import os, sys, chatproxy.asgi, chatproxy.http.protocol, chatproxy.processes.worker"
COMMAND = "import os, sys, django; django.setup(); import chatproxy.management.commands.{}"
BUDGET = (
    "from proxyapi.keys import snapshots; key = dict.fromkeys({names}) | {budget};"
    " snapshots.load_price_list(snapshots.Snapshot('', 0.0, [key]))"
)
BUDGET_NAMES = ["budget_day", "budget_month", "budget_total"]


def loaded(code: str, data_dir: Path) -> set[str]:
    """Runs Python `code` in a new process, and returns which of the packages in question it has loaded."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment |= {NO_ENV_FILES: "1", "DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "chatproxy.settings"}
    command = [sys.executable, "-c", code + PRINT_LOADED + END]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_a_worker_at_rest_has_no_sdk_no_price_list_and_no_pages(tmp_path: Path) -> None:
    assert loaded(f"{WORKER}; import proxyapi.urls", tmp_path) == {"psycopg", "django.db"}


def test_the_first_page_loads_the_pages(tmp_path: Path) -> None:
    code = f"{WORKER}; from chatproxy.page_protection import django_pages; django_pages.load_handler()"
    assert loaded(code, tmp_path) == {"psycopg", "django.db", *PAGES}


@pytest.mark.parametrize("span", BUDGET_NAMES)
def test_a_worker_that_serves_a_budget_has_the_price_list(tmp_path: Path, span: str) -> None:
    code = f"{WORKER}; {BUDGET.format(names=BUDGET_NAMES, budget={span: '1.00'})}"
    assert "genai_prices" in loaded(code, tmp_path)


def test_a_worker_without_budgets_does_not_load_it_with_its_keys(tmp_path: Path) -> None:
    code = f"{WORKER}; {BUDGET.format(names=BUDGET_NAMES, budget={})}"
    assert "genai_prices" not in loaded(code, tmp_path)


@pytest.mark.parametrize("command", ["serve", "ship"])
def test_a_start_and_a_shipper_have_what_they_use(tmp_path: Path, command: str) -> None:
    """The price list comes with the first call, a client of HTTP with the first alert, that of Redis with REDIS_URL."""
    assert loaded(COMMAND.format(command), tmp_path) == {"psycopg", "django.db"}


def test_gunicorns_master_has_no_database_client(tmp_path: Path) -> None:
    assert loaded("import os, sys, chatproxy.processes.gunicorn_conf", tmp_path) == set()


def test_an_upgrade_tries_what_is_loaded_later(tmp_path: Path) -> None:
    """New code that cannot be loaded must be noticed before it takes over."""
    code = f"{WORKER}; [__import__(name) for name in {LOADED_BY_WORKERS}]"
    assert {"openai", "genai_prices", "httpx2", *PAGES, *ASKED_FOR} <= loaded(code, tmp_path)
