"""What `doctor` finds on this machine: each check with what it is for, and with what is well."""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytest_django import Settings

from chatproxy.configuration import setting_reader
from chatproxy.doctor import checkup, host_checks, redis_check, setting_checks, upstream_checks
from chatproxy.doctor.finding import Finding, Level
from tests.support.servers.redis_server import RedisServer

MIB = 1024 * 1024


@pytest.fixture
def data_dir(tmp_path: Path, settings: Settings) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(mode=0o700)
    return tmp_path / "data"


def warnings(findings: Iterable[Finding]) -> list[str]:
    """Returns the words of findings, all of which must be warnings."""
    found = list(findings)
    assert {finding.level for finding in found} <= {Level.WARNING}
    return [finding.words for finding in found]


def test_files_that_everybody_may_read_are_named(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    monkeypatch.delenv(setting_reader.NO_ENV_FILES)
    files = {
        tmp_path / ".env": "OPENAI_API_KEY=sk-1\n",
        tmp_path / ".env.local": "PORT=4000\n",  # no secret
        data_dir / setting_reader.SECRETS_FILE: "SECURITY_KEY=x\n",
        data_dir / "keyring.json": "{}",
    }
    for path, text in files.items():
        path.write_text(text)
        path.chmod(0o640)
    assert warnings(host_checks.check_permissions()) == []
    for path in files:
        path.chmod(0o644)
    private = [path for path in files if path.name != ".env.local"]
    assert warnings(host_checks.check_permissions()) == [
        f"every account of this machine may read the secrets in {path}; chmod 600 it" for path in private
    ]


def test_a_data_dir_to_which_everybody_may_write_is_named(data_dir: Path) -> None:
    data_dir.chmod(0o777)
    assert warnings(host_checks.check_permissions()) == [
        f"every account of this machine may write to DATA_DIR {data_dir}; chmod 700 it"
    ]


def test_a_data_dir_into_which_everybody_may_look_is_named(data_dir: Path) -> None:
    for mode, count in [(0o755, 1), (0o711, 1), (0o750, 0), (0o700, 0)]:
        data_dir.chmod(mode)
        words = warnings(host_checks.check_permissions())
        assert words == [f"every account of this machine may look into DATA_DIR {data_dir}; chmod 700 it"] * count


def test_a_database_that_is_not_used_is_named(data_dir: Path, settings: Settings) -> None:
    """Its calls and keys are not in the database of DATABASE_URL unless somebody has taken them there."""
    for is_bundled, has_cluster, count in [(False, False, 0), (False, True, 1), (True, True, 0)]:
        settings.DATABASE_IS_BUNDLED = is_bundled
        if has_cluster:
            (data_dir / "postgres").mkdir(exist_ok=True)
            (data_dir / "postgres" / "PG_VERSION").write_text("18\n")
        words = warnings(host_checks.check_unused_database())
        assert len(words) == count
        assert all(f"the ledger and the keys in {data_dir}/postgres are not used" in line for line in words)


def test_too_few_open_files_are_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAX_PARALLEL_REQUESTS = 1000
    for hard, words in [
        (resource.RLIM_INFINITY, []),
        (2200, []),
        (2199, ["1000 calls at once need 2200 open files, and 2199 are allowed; raise `ulimit -n`"]),
    ]:
        limits = SimpleNamespace(
            getrlimit=lambda _, hard=hard: (256, hard), RLIMIT_NOFILE=0, RLIM_INFINITY=resource.RLIM_INFINITY
        )
        monkeypatch.setattr(host_checks, "resource", limits)
        assert warnings(host_checks.check_open_files()) == words


def test_a_disk_that_is_nearly_full_is_named(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before there is a DATA_DIR: then it is the disk on which it will be."""
    settings.JOURNAL_RESERVE_BYTES = 64 * MIB
    settings.DATA_DIR = data_dir / "not" / "yet"
    asked: list[Path] = []
    for free, level in [(64 + 1024, None), (64 + 1023, Level.WARNING), (64, Level.WARNING), (63, Level.FAULT)]:

        def disk(path: Path, free: int = free) -> SimpleNamespace:
            asked.append(path)
            return SimpleNamespace(f_bavail=free, f_frsize=MIB)

        monkeypatch.setattr(host_checks, "os", SimpleNamespace(statvfs=disk, path=os.path))
        findings = list(host_checks.check_free_disk())
        assert [finding.level for finding in findings] == [level] * bool(level)
        assert all(f"{free} MiB free" in finding.words for finding in findings)
        assert all(("are refused now" in finding.words) == (level is Level.FAULT) for finding in findings)
        checkup.obey([("free disk space", finding) for finding in findings], io.StringIO())  # a server starts
    assert set(asked) == {data_dir}


@pytest.mark.parametrize(
    ("url", "count"),
    [("http://127.0.0.1:9", 1), ("http://127.0.0.1:9/v1", 0), ("https://gateway.example/openai/v1", 0)],
)
def test_an_upstream_without_a_path_is_doubtful(url: str, count: int) -> None:
    words = warnings(setting_checks.check_upstream_url(url, "127.0.0.1", 3002))
    assert len(words) == count
    assert all("is /v1 missing" in line for line in words)


@pytest.mark.parametrize(
    ("base_url", "proxy", "level", "words"),
    [
        ("http://127.0.0.1:9/v1", "", Level.OK, "127.0.0.1 of OPENAI_BASE_URL is known; no connection was tried"),
        ("http://nowhere.invalid/v1", "", Level.WARNING, "the host nowhere.invalid of OPENAI_BASE_URL is unknown here"),
        ("http://nowhere.invalid/v1", "http://127.0.0.1:9", Level.OK, "127.0.0.1 of the proxy for upstream is known"),
        (
            "http://127.0.0.1:9/v1",
            "nowhere.invalid:9",
            Level.WARNING,
            "nowhere.invalid of the proxy for upstream is un",
        ),
    ],
)
def test_an_upstream_whose_name_is_unknown_is_named(
    base_url: str, proxy: str, level: Level, words: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy, it is the proxy that looks up the name of upstream."""
    settings.OPENAI_BASE_URL = base_url
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    (finding,) = upstream_checks.check_upstream_host()
    assert finding.level is level
    assert words in finding.words


def test_a_missing_upstream_key_is_named_and_a_key_is_not_called_valid(settings: Settings) -> None:
    for key, level, words in [("sk-1", Level.OK, "was not tried"), (None, Level.WARNING, "is not set")]:
        settings.OPENAI_API_KEY = key
        (finding,) = upstream_checks.check_upstream_key()
        assert finding.level is level
        assert words in finding.words


def test_a_redis_that_answers_is_well(tmp_path: Path, settings: Settings) -> None:
    redis = RedisServer(tmp_path)
    settings.REDIS_URL = redis.url
    redis.start()
    try:
        assert warnings(redis_check.check_redis()) == []
    finally:
        redis.kill()
    assert ["ConnectionError" in line for line in warnings(redis_check.check_redis())] == [True]


@pytest.mark.parametrize(("workers", "count"), [(1, 0), (2, 1)])
def test_several_workers_want_a_redis(settings: Settings, workers: int, count: int) -> None:
    settings.WEB_CONCURRENCY = workers
    assert len(warnings(redis_check.check_redis())) == count
