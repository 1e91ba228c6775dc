"""The image: its steps run as its user, who has no rights, on a file system that is read-only but for two places."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from tests.simulator.server import Simulator
from tests.support.callers.metrics import HI, value, wait_until
from tests.support.dockerfile import command_in, copy_context, environment, instructions
from tests.support.polling import PATIENCE
from tests.support.servers.confined import confined
from tests.support.servers.gateway import Gateway, free_port, run_gateway
from tests.support.upstreams.fixed import run_fixed_upstream

COMPILE = "python -m compileall "
GIVEN = {"HOST", "PORT", "DATA_DIR"}  # by the test, since the container's are its own


def is_healthy(port: int) -> bool:
    """Whether the image's HEALTHCHECK finds a server at `port` healthy, in an environment with a proxy for upstream."""
    [check] = instructions("HEALTHCHECK")
    program, *arguments = command_in(check)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PORT": str(port), "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode in {0, 1}  # Docker reserves the others
    return done.returncode == 0


def user() -> int:
    """The number of the image's user, which owns the data."""
    [text] = instructions("USER")
    number, group = map(int, text.split(":"))
    assert number == group > 0
    return number


def test_a_linter_of_dockerfiles_finds_no_fault() -> None:
    linter = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run(
        [linter, BASE_DIR / "Dockerfile"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_user_is_a_number_and_owns_the_data() -> None:
    [makes_user] = [step for step in instructions("RUN") if "useradd" in step]
    assert f"--uid {user()} --gid {user()} " in makes_user
    assert f"install --directory --owner={user()} --group={user()} --mode=0700 /data" in makes_user
    assert instructions("VOLUME") == [environment()["DATA_DIR"]] == ["/data"]
    assert instructions("EXPOSE") == [environment()["PORT"]]


def test_only_what_runs_is_in_it(tmp_path: Path) -> None:
    copy_context(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"manage.py", "chatproxy", "proxyapi", "usage", "templates", "requirements"}
    assert {path.name for path in (tmp_path / "requirements").iterdir()} == {"base.txt"}


def test_the_steps_run_for_a_user_without_rights(simulator: Simulator, tmp_path: Path) -> None:
    """With the bundled PostgreSQL, which `docker run` starts; what is installed is that of the tests."""
    app, data_dir = tmp_path / "app", tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    copy_context(app)
    for step in instructions("RUN"):
        if step.startswith(COMPILE):
            subprocess.run([sys.executable, *shlex.split(step)[1:]], cwd=app, check=True)
    assert (app / "chatproxy" / "__pycache__").is_dir()
    [command] = map(command_in, instructions("CMD"))
    assert command == ["python", "manage.py", "serve"]
    settings = {name: value for name, value in environment().items() if name not in GIVEN}

    with run_gateway(simulator.base_url, "", data_dir, app, confined(user(), data_dir, app), **settings) as gateway:
        assert gateway.post("/openai", HI).status_code == 200
        wait_until(gateway, lambda found: value(found, "chatproxy_cost_dollars_total") > 0)  # it is in the tables
        assert is_healthy(int(gateway.variables["PORT"]))
        assert gateway.stop() == 0
    assert "Traceback" not in "".join(gateway.log)
    assert not os.path.lexists(app / "var")


def test_a_server_is_healthy_while_it_takes_calls(gateway: Gateway) -> None:
    assert is_healthy(int(gateway.variables["PORT"]))


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_is_the_status_of_readyz(status: int, healthy: bool) -> None:
    with run_fixed_upstream() as server:
        server.status = status
        assert is_healthy(server.server_address[1]) is healthy
        assert [path for _, path, *_ in server.asked] == ["/readyz"]


def test_a_server_that_is_away_is_not_healthy() -> None:
    assert not is_healthy(free_port())


def test_nothing_is_left_out_of_the_image_by_another_name() -> None:
    """What .dockerignore names is there, so that a renamed folder is noticed."""
    lines = (BASE_DIR / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line.startswith("!") and not (BASE_DIR / line[1:]).exists()] == []
