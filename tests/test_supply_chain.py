"""What is fetched to build and run the server is named by its content: images by digest, packages by hash."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatproxy.configuration.setting_reader import BASE_DIR

REQUIREMENTS = sorted((BASE_DIR / "requirements").glob("*.txt"))
BUILDS = [BASE_DIR / name for name in ("Makefile", "Dockerfile", ".ci/run", "docker-compose.yml")]
INSTALLER = BASE_DIR / "requirements" / "install.py"
DIGEST = re.compile(r"[a-z0-9/.-]+:[0-9]+\.[0-9][0-9.]*[a-z-]*@sha256:[0-9a-f]{64}")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())
    return found


def images() -> list[str]:
    """Every image that is pulled, by whichever file."""
    found = re.findall(r"(?m)^FROM\s+(?:--\S+\s+)*(\S+)", (BASE_DIR / "Dockerfile").read_text())
    found += re.findall(r"--from=(\S+)", (BASE_DIR / "Dockerfile").read_text())
    return found + [service["image"] for service in compose()["services"].values() if "image" in service]


def test_it_works() -> None:
    assert len(images()) >= 3
    assert {path.stem for path in REQUIREMENTS} == {path.stem for path in (BASE_DIR / "requirements").glob("*.in")}


@pytest.mark.parametrize("image", images())
def test_an_image_is_named_by_version_and_digest(image: str) -> None:
    assert DIGEST.fullmatch(image)


@pytest.mark.parametrize("path", BUILDS, ids=lambda path: str(path.name))
def test_whatever_is_installed_is_checked_by_hash(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    installs = re.findall(r"(?m)^.*(?:pip|\(PIP\)|uv pip) +(?:-\S+ +)*install .*$", text)
    installs += re.findall(r"(?m)^.*\bnpm +(?:install|i|add)\b.*$", text)

    assert [line for line in installs if "--require-hashes" not in line] == []
    assert not re.search(r"\b(?:curl|wget)\b|ADD +https?:", text)
    assert path.name != "Makefile" or len(installs) + text.count(str(INSTALLER.relative_to(BASE_DIR))) >= 7


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: str(path.name))
def test_a_requirement_has_a_version_and_hashes(path: Path) -> None:
    text = path.read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]

    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+(?:\[[a-z,0-9_-]+\])?==\S+ ", line), line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("path", [*REQUIREMENTS, *BUILDS], ids=lambda path: str(path.name))
def test_no_host_to_fetch_from_is_named(path: Path) -> None:
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)|--(?:extra-)?index|--find-links", path.read_text())


def test_a_package_of_node_has_its_hash() -> None:
    lock = json.loads((BASE_DIR / "tests/clients/node/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert packages
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []


def test_only_the_server_of_compose_can_be_reached_from_outside() -> None:
    found = compose()
    services = found["services"]

    assert {name for name, service in services.items() if "ports" in service} == {"chatproxy"}
    assert all(port.startswith("127.0.0.1:") for port in services["chatproxy"]["ports"])
    for name in services.keys() - {"chatproxy"}:
        assert services[name]["networks"] == ["database"]
    assert found["networks"]["database"] == {"internal": True}


@pytest.mark.parametrize(
    ("says", "ends_with", "code"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 1 known vulnerability in 1 package", 1, 1),
        ("No known vulnerabilities found\\nx  Dependency not found and could not be audited: x (1.0)", 0, 0),
        ("Traceback (most recent call last):\\nConnectionError: no route to host", 1, 0),
    ],
)
def test_an_audit_fails_for_a_vulnerability_but_not_for_a_registry_that_is_away(
    tmp_path: Path, says: str, ends_with: int, code: int
) -> None:
    audit = tmp_path / "pip-audit"
    audit.write_text(f"#!/bin/sh\nprintf '{says}\\n' >&2\nexit {ends_with}\n")
    audit.chmod(0o755)
    ran = subprocess.run([BASE_DIR / ".ci/audit", audit], capture_output=True, text=True, check=False)

    assert ran.returncode == code
    assert "vulnerabilit" in ran.stdout or "no route to host" in ran.stderr
    assert ("NOT AUDITED" in ran.stderr) is ("Traceback" in says or "could not be audited" in says)
