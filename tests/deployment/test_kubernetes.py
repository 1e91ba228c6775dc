"""deploy/kubernetes/: what it says of paths, ports, settings, secrets and times is what the server has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import proxyapi.urls
from chatproxy.configuration import setting_reader
from chatproxy.processes import gunicorn_conf, shipper_watch
from chatproxy.start.first_start import GENERATORS
from chatproxy.version import VERSION
from tests.support.dockerfile import environment, instructions
from tests.support.documentation import section
from tests.support.polling import PATIENCE

DIRECTORY = setting_reader.BASE_DIR / "deploy" / "kubernetes"
FILES = sorted(DIRECTORY.glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [found for path in FILES for found in yaml.safe_load_all(path.read_text())]
[STATEFUL_SET] = [found for found in OBJECTS if found["kind"] == "StatefulSet"]
POD: dict[str, Any] = STATEFUL_SET["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
ENVIRONMENT = {variable["name"]: variable["value"] for variable in CONTAINER["env"]}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def patience(probe: str) -> int:
    """Seconds until the probe has failed often enough."""
    found = CONTAINER[probe]
    return int(found["periodSeconds"] * found["failureThreshold"])


def test_it_works() -> None:
    assert sorted(found["kind"] for found in OBJECTS) == ["PodDisruptionBudget", "Service", "Service", "StatefulSet"]
    assert {path.name for path in DIRECTORY.iterdir()} == {path.name for path in FILES}  # `kubectl apply -f` reads all


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_takes_it(version: str) -> None:
    """By its own schemas, in which nothing but what they name is allowed."""
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, *FILES],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == len(OBJECTS)


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_asks_for_a_page_that_there_is(probe: str) -> None:
    asked = CONTAINER[probe]["httpGet"]
    path = asked["path"].removeprefix("/")
    assert any(str(route.pattern) == path for route in proxyapi.urls.urlpatterns)
    assert asked["port"] in {port["name"] for port in CONTAINER["ports"]}
    assert CONTAINER[probe]["timeoutSeconds"] <= CONTAINER[probe]["periodSeconds"]


def test_only_readiness_depends_on_more_than_the_process() -> None:
    """A pod whose disk is full, or that drains, is not killed for it."""
    assert [CONTAINER[probe]["httpGet"]["path"] for probe in PROBES] == ["/healthz", "/healthz", "/readyz"]


def test_the_master_replaces_a_worker_before_the_pod_is_killed() -> None:
    assert patience("livenessProbe") >= 2 * gunicorn_conf.timeout


def test_a_pod_drains_until_everybody_knows_and_has_the_time_that_it_may_need() -> None:
    drain, timeout = float(ENVIRONMENT["DRAIN_SECONDS"]), float(ENVIRONMENT["REQUEST_TIMEOUT"])
    assert drain > patience("readinessProbe") + CONTAINER["readinessProbe"]["timeoutSeconds"]
    defaults = gunicorn_conf._values
    rest = gunicorn_conf.graceful_timeout - defaults["DRAIN_SECONDS"] - defaults["REQUEST_TIMEOUT"]
    assert POD["spec"]["terminationGracePeriodSeconds"] >= drain + timeout + rest + shipper_watch.STOP_SECONDS


def test_ports_are_those_of_the_image() -> None:
    assert [str(port["containerPort"]) for port in CONTAINER["ports"]] == instructions("EXPOSE")
    for service in (found["spec"] for found in OBJECTS if found["kind"] == "Service"):
        assert [port["targetPort"] for port in service["ports"]] == [port["name"] for port in CONTAINER["ports"]]
    assert CONTAINER["image"].endswith(f"/chatproxy:{VERSION}")


def test_every_variable_is_a_setting_and_every_secret_a_file() -> None:
    names = {setting.name for setting in setting_reader.SETTINGS}
    assert ENVIRONMENT.keys() <= names | setting_reader.FILE_NAMES
    assert not ENVIRONMENT.keys() & (setting_reader.SECRETS | setting_reader.URLS_WITH_PASSWORDS)
    [secrets] = [mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "secrets"]
    files = {name: path for name, path in ENVIRONMENT.items() if name in setting_reader.FILE_NAMES}
    for name, path in files.items():
        assert Path(path) == Path(secrets["mountPath"], name.removesuffix("_FILE"))
    plain = {name: value for name, value in ENVIRONMENT.items() if name not in files}
    setting_reader.read(plain)  # each value is one that the server takes
    given = {name.removesuffix("_FILE") for name in files}
    assert given >= {*GENERATORS, "KEY_ENCRYPTION_KEY", "DATABASE_URL"}  # which all pods must have alike
    assert given == secrets_of_the_documentation()


def secrets_of_the_documentation() -> set[str]:
    """The keys of the secret that the commands of docs/deploy.md make."""
    text = section("## Kubernetes")
    [generated] = re.findall(r"for name in (.*); do", text)
    return {*re.findall(r"> secrets/(\w+)", text), *generated.split()}


def test_a_pod_has_no_rights_and_writes_to_its_volumes_only() -> None:
    [user] = instructions("USER")
    allowed = POD["spec"]["securityContext"]
    assert allowed["runAsNonRoot"] is True
    assert f"{allowed['runAsUser']}:{allowed['runAsGroup']}" == user
    assert allowed["fsGroup"] == allowed["runAsGroup"]  # else it could not read its secrets
    [secrets] = [volume["secret"] for volume in POD["spec"]["volumes"] if "secret" in volume]
    assert secrets["defaultMode"] == 0o440
    container = CONTAINER["securityContext"]
    assert container["readOnlyRootFilesystem"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    places = {mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")}
    assert places == {environment()["DATA_DIR"], "/tmp"}  # noqa: S108  (the container's)


def test_each_pod_keeps_its_journal() -> None:
    [data] = [mount["name"] for mount in CONTAINER["volumeMounts"] if mount["mountPath"] == environment()["DATA_DIR"]]
    assert [claim["metadata"]["name"] for claim in STATEFUL_SET["spec"]["volumeClaimTemplates"]] == [data]


def test_everything_selects_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    spread = POD["spec"]["topologySpreadConstraints"]
    selectors = [
        *(found["spec"]["selector"] for found in OBJECTS), *(rule["labelSelector"] for rule in spread)
    ]  # fmt: skip
    assert all(selector.get("matchLabels", selector) == labels for selector in selectors)
    names = {found["metadata"]["name"] for found in OBJECTS if found["kind"] == "Service"}
    assert STATEFUL_SET["spec"]["serviceName"] in names
    [budget] = [found["spec"] for found in OBJECTS if found["kind"] == "PodDisruptionBudget"]
    assert budget["maxUnavailable"] < STATEFUL_SET["spec"]["replicas"]
