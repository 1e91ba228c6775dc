"""Checks of this machine: the data directory, the access to its secrets, open files and free disk space."""

from __future__ import annotations

import os
import resource
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from chatproxy.configuration import setting_reader
from chatproxy.doctor.finding import Finding, fault, warning
from chatproxy.http.connections import files_needed
from proxyapi.keys.snapshots import keyring_file

WORKERS_DIRECTORIES = ("journal", "owners", "workers")  # in DATA_DIR
MIN_FILES = 256
MIB = 1024 * 1024
SCARCE_BYTES = 1024 * MIB  # of free disk space beyond the reserve


def check_data_dir() -> Iterator[Finding]:
    """Yields a fault for each directory, DATA_DIR or one in it, in which the server must write files but cannot.

    If DATA_DIR does not exist yet, the nearest existing directory above it is checked instead.
    """
    # Otherwise a worker would fail later, with a traceback.
    workers = [settings.DATA_DIR / name for name in WORKERS_DIRECTORIES]
    for path in (_existing(settings.DATA_DIR), *filter(os.path.lexists, workers)):
        try:
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"x")
        except OSError as error:
            unwritable = f"DATA_DIR {path} cannot be written: {error.strerror}"
            yield fault(unwritable if path.is_dir() else not_a_directory(path))


def not_a_directory(path: Path) -> str:
    """Returns the error message for a DATA_DIR that is a file, or a link that leads nowhere."""
    return f"DATA_DIR cannot be used: {path} is no directory, or a link to none; move it away, or name another DATA_DIR"


def check_unused_database() -> Iterator[Finding]:
    """Yields a warning if DATA_DIR has a database of the bundled PostgreSQL that is unused because of DATABASE_URL."""
    cluster = settings.DATA_DIR / "postgres"
    has_one = os.path.exists(cluster / "PG_VERSION")  # False if this account may not look into it
    if has_one and not settings.DATABASE_IS_BUNDLED:
        yield warning(
            f"DATABASE_URL is set, so the ledger and the keys in {cluster} are not used; docs/backup.md says how to "
            "take them along; if they are not wanted, move that away"
        )


def check_permissions() -> Iterator[Finding]:
    """Yields a warning for each file with secrets that all accounts of this machine may read.

    Yields one more warning if all accounts may write to DATA_DIR, or may look into a DATA_DIR that this account owns.
    """
    mode = _mode(settings.DATA_DIR)
    if mode & stat.S_IWOTH:
        yield warning(f"every account of this machine may write to DATA_DIR {settings.DATA_DIR}; chmod 700 it")
    elif mode & stat.S_IXOTH and settings.DATA_DIR.stat().st_uid == os.geteuid():  # a volume may be another account's
        yield warning(f"every account of this machine may look into DATA_DIR {settings.DATA_DIR}; chmod 700 it")
    secret_names = setting_reader.SECRETS | setting_reader.URLS_WITH_PASSWORDS
    files = [*setting_reader.env_files(), settings.DATA_DIR / setting_reader.SECRETS_FILE]
    private = [path for path in files if setting_reader.read_file(path, set(secret_names))]
    for path in (*private, keyring_file()):
        if _mode(path) & stat.S_IROTH:
            yield warning(f"every account of this machine may read the secrets in {path}; chmod 600 it")


def check_open_files() -> Iterator[Finding]:
    """Yields a warning if the system allows too few open files for MAX_PARALLEL_REQUESTS calls at once.

    Yields a fault if it allows fewer than `MIN_FILES`: then a few calls use up all of them.
    """
    calls = settings.MAX_PARALLEL_REQUESTS
    # The hard limit counts: a start raises the limit of the server's processes up to it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files, needed = sys.maxsize if hard == resource.RLIM_INFINITY else hard, files_needed(calls)
    if files < MIN_FILES:
        yield fault(f"{files} open files are allowed, and at least {MIN_FILES} are needed; raise `ulimit -n`")
    elif files < needed:
        yield warning(f"{calls} calls at once need {needed} open files, and {files} are allowed; raise `ulimit -n`")


def check_free_disk() -> Iterator[Finding]:
    """Yields a fault if the disk of DATA_DIR is so full that calls are refused; a warning if it is nearly so full.

    Nearly means that at most 1 GiB (`SCARCE_BYTES`) more can be written before calls are refused. The fault does not
    prevent a start, since the server's pages can still be read then.
    """
    disk = os.statvfs(_existing(settings.DATA_DIR))
    free, reserve = disk.f_bavail * disk.f_frsize, settings.JOURNAL_RESERVE_BYTES
    if free < reserve:
        yield fault(
            f"the disk of DATA_DIR has {free // MIB} MiB free, less than {reserve // MIB} MiB "
            "(JOURNAL_RESERVE_BYTES): calls are refused now, with 503; free some space",
            prevents_start=False,
        )
    elif free < reserve + SCARCE_BYTES:
        yield warning(
            f"the disk of DATA_DIR has {free // MIB} MiB free; below {reserve // MIB} MiB (JOURNAL_RESERVE_BYTES) "
            "calls get 503; free some space"
        )


def _existing(path: Path) -> Path:
    """Returns `path` if it exists; otherwise the nearest directory above it that exists."""
    return next((one for one in (path, *path.parents) if os.path.lexists(one)), path)


def _mode(path: Path) -> int:
    """Returns the mode of a file (its type and permission bits), or 0 if the file is missing or cannot be seen."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
