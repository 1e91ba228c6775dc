"""Makes the test's own process a worker, for tests that call the ASGI application without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxyapi.keys.keyring import keyring
from usage.journal.writer import Journal
from usage.ledger import ledger


@contextmanager
def worker_in_this_process(directory: Path) -> Iterator[Journal]:
    """Makes this process a worker until the block ends, as far as it accepts SECURITY_KEY and writes a journal."""
    journal = Journal(directory, reserve_bytes=0, sync="off")
    journal.open()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "_journal", journal)
        patched.setattr(keyring, "_entries", keyring._entries)
        keyring._replace_keys(None)
        yield journal
        journal.close()
