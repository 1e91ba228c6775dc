"""A backup of the bundled PostgreSQL is restored into an older PostgreSQL of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatproxy.postgres.client_programs import STRICT_MAJOR
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask
from tests.support.polling import wait_until
from tests.support.servers.backups import Place, new_place
from tests.support.servers.older_postgres import older_postgres

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "größe 🙂"}]}


def test_it_works(new: Callable[..., Place], simulator: Simulator, tmp_path: Path) -> None:
    old, path = new("old", bundled=True), tmp_path / "backup.tar"
    with older_postgres(STRICT_MAJOR) as url:
        with old.run() as gateway:
            key = gateway.make_key("ada")
            made = ask(gateway, key, "/v1/chat/completions", CALL).headers["x-proxy-request-id"]
            wait_until(lambda: made in old.rows())
            before = old.rows()
            old.backup(path, "--with-secrets")
        with new_place(simulator.base_url, tmp_path / "new", url, is_migrated=False) as restored:
            restored.restore(path)
            assert restored.rows() == before
            with restored.run() as gateway:
                made = ask(gateway, key, "/v1/chat/completions", CALL).headers["x-proxy-request-id"]
                wait_until(lambda: made in restored.rows())
                done = gateway.manage("ledger", "verify")
                assert (done.returncode, done.stdout) == (0, "the ledger is whole\n")
