"""Runs nginx in two roles, each with one worker process.

It is an upstream with unstreamed answers, as fast as C code can be, and a reverse proxy, which shows the lowest
possible cost of any server between client and upstream.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.stand.processes import LOAD_CORE, SERVER_CORE, children, pinned
from bench.stand.stand import Server
from bench.stand.upstream import COMPLETION, EMBEDDING, TRANSCRIPT
from tests.support.servers.gateway import free_port

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
CONFIGURATION = """
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
daemon off;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 64m;
    default_type application/json;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        {server}
    }}
}}
"""
ANSWERS = {"chat/completions": COMPLETION, "embeddings": EMBEDDING, "audio/transcriptions": TRANSCRIPT}
# nginx serves files to GET only; it refuses a POST with 405, for which error_page then sends the file with 200.
SERVE = """
location /v1/ {
    root .;
    open_file_cache max=16;
    add_header x-request-id req_bench;
    error_page 405 =200 $uri;
}
"""
PASS = """
location / {
    proxy_pass http://upstream;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_request_buffering off;
}
"""


def program() -> str:
    """Finds the installed nginx and returns its path; if there is none, raises SystemExit with advice to install it."""
    found = shutil.which("nginx", path=PATH)
    if found is None:
        raise SystemExit(
            "The benchmarks need nginx: apt install nginx-light (Debian, Ubuntu). Its service need not run."
        )
    return found


@contextmanager
def answering() -> Iterator[str]:
    """Runs nginx as an upstream that answers calls with fixed files, until the `with` block ends; yields its URL.

    This is for calls with small bodies only, because nginx answers before a large body has arrived.
    """
    with _running(LOAD_CORE, "", SERVE) as server:
        yield server.url


@contextmanager
def passing_on(upstream: str) -> Iterator[Server]:
    """Runs nginx as a reverse proxy for `upstream` until the `with` block ends; yields its URL and processes."""
    host = upstream.removeprefix("http://")
    pool = f"upstream upstream {{ server {host}; keepalive 4096; keepalive_requests 1000000000; }}"
    with _running(SERVER_CORE, pool, PASS) as it:
        yield it


@contextmanager
def _running(core: int, http: str, server: str) -> Iterator[Server]:
    """Runs nginx on one core until the `with` block ends; yields its URL and processes.

    `http` and `server` are inserted into the sections of these names in its configuration.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # an nginx that root starts runs its worker as another user
        for path, answer in ANSWERS.items():
            file = home / "v1" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(answer)
        configuration = home / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(http=http, server=server, port=port))
        command = [program(), "-p", directory, "-c", str(configuration), "-e", "stderr"]
        with pinned(core):
            process = subprocess.Popen(command)
        try:
            while not children(process.pid):
                if process.poll() is not None:
                    raise SystemExit("nginx does not start")
                time.sleep(0.02)  # nothing to wait for: nginx does not report that it has started
            yield Server("nginx", f"http://127.0.0.1:{port}", root=process.pid)
        finally:
            process.terminate()
            process.wait(10)
