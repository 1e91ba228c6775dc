"""Compose's files: older versions of Compose take them, every setting reaches the server, secrets can be files."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import yaml

from chatproxy.configuration import setting_reader
from chatproxy.processes import gunicorn_conf, shipper_watch
from tests.support.dockerfile import environment
from tests.support.documentation import section

MAIN, SECRETS = "docker-compose.yml", "docker-compose.secrets.yml"
# What Compose 2.0 has in a service, of what is used here.
OLD_KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init", "networks", "ports",
    "read_only", "restart", "secrets", "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
OLD_HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
NOT_FOR_CONTAINERS = {"DEBUG"}  # only `make dev` and `make demo` take it
PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
IN_CONTAINERS = "/run/secrets/"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((setting_reader.BASE_DIR / name).read_text())
    return found


def strings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


@pytest.mark.parametrize("name", [MAIN, SECRETS])
def test_an_older_compose_takes_it(name: str) -> None:
    """Compose 2.0 has only the short forms of `env_file`, `ports` and the like, and refuses keys that came later."""
    found = read(name)
    assert found.keys() <= {"services", "networks", "volumes", "secrets"}
    for service in found["services"].values():
        assert service.keys() <= OLD_KEYS
        assert service.get("healthcheck", {}).keys() <= OLD_HEALTH_KEYS
        assert all(isinstance(value, str | None) for value in service.get("environment", {}).values())
        for key in ("cap_drop", "networks", "ports", "secrets", "security_opt", "tmpfs", "volumes"):
            assert strings(service.get(key, [])), key
        for need in service.get("depends_on", {}).values():
            assert need["condition"] in {"service_started", "service_healthy"}
            assert len(need) == 1


def test_every_setting_reaches_the_server() -> None:
    given = read(MAIN)["services"]["chatproxy"]["environment"]
    names = {setting.name for setting in setting_reader.SETTINGS}
    assert given.keys() == (names - NOT_FOR_CONTAINERS - environment().keys()) | setting_reader.FILE_NAMES | PROXIES
    assert {name for name, value in given.items() if value is not None} == {"DATABASE_URL", "REDIS_URL"}


def test_the_server_writes_to_its_volume_only() -> None:
    service = read(MAIN)["services"]["chatproxy"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108  (the container's)
    assert service["volumes"] == ["data:" + environment()["DATA_DIR"]]
    assert service["cap_drop"] == ["ALL"]
    assert service["ports"] == [f"127.0.0.1:{environment()['PORT']}:{environment()['PORT']}"]


def test_it_is_stopped_with_the_time_that_it_may_need() -> None:
    service = read(MAIN)["services"]["chatproxy"]
    assert service["init"] is True
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds >= gunicorn_conf.graceful_timeout + shipper_watch.STOP_SECONDS


def test_secrets_are_files_and_not_in_the_environment() -> None:
    main, found = read(MAIN)["services"], read(SECRETS)
    for name, service in found["services"].items():
        given = service["environment"]
        assert {variable.removesuffix("_FILE") for variable in given} == set(service["secrets"])
        for secret in service["secrets"]:
            assert (given[secret], given[f"{secret}_FILE"]) == ("", IN_CONTAINERS + secret)
            assert secret in main[name]["environment"]  # and is emptied here, since both together are refused
            assert found["secrets"][secret] == {"file": f"./secrets/{secret}"}
    server = found["services"]["chatproxy"]["environment"]
    assert {name for name in server if name.endswith("_FILE")} <= setting_reader.FILE_NAMES


def test_the_documentation_makes_every_file_and_uses_both_files() -> None:
    text = section("### Secrets as files")
    assert set(re.findall(r"> secrets/(\w+)", text)) == read(SECRETS)["secrets"].keys()
    words = text.split()
    assert {(MAIN, "-f"), ("-f", SECRETS)} <= set(pairwise(words))
