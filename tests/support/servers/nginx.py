"""Runs a real nginx for a test, on a free port, as the user who runs the tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.support.servers.disks import wait_until

MAIN = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{server}
}}
"""


@contextmanager
def run_nginx(server: str, directory: Path, url: str) -> Iterator[None]:
    """Runs nginx with the section `server { … }` of its configuration until the block ends.

    The block begins once nginx answers at `url`. Skips the test if nginx is not installed.
    """
    command = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if command is None:
        pytest.skip("there is no nginx; on Debian and Ubuntu: apt install nginx-light")
    settings = directory / "nginx.conf"
    settings.write_text(MAIN.format(directory=directory, server=server))
    log_path = directory / "nginx.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen([command, "-p", directory, "-c", settings], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(url) or process.poll() is not None)
        assert process.poll() is None, log_path.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        httpx2.get(url, verify=False, timeout=5)  # a certificate of the test's own
        return True
    return False
