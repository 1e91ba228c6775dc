"""A host that looks for faults, whose state the test sets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings


@pytest.fixture
def host(db: None, monkeypatch: pytest.MonkeyPatch, settings: LazySettings, tmp_path: Path) -> Any:
    """A `tests.support.alerts.Host` without a fault, and without rules."""
    from chatproxy.alert_models import AlertRule  # models can be imported once Django is set up
    from chatproxy.alerts import host_conditions
    from tests.support.alerts import Host

    settings.DATA_DIR = tmp_path
    AlertRule.objects.all().delete()
    found = Host.healthy()
    monkeypatch.setattr(host_conditions, "read_status", lambda: found.status)
    disk = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(total=100e9, free=found.free))
    monkeypatch.setattr(host_conditions, "shutil", disk)
    return found
