"""An OpenID provider for tests: a real issuer on a free port, at which anybody may sign in as anybody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from urllib.parse import urljoin

import httpx2

from tests.support import polling
from tests.support.servers.gateway import PATIENCE, free_port

CLIENT = {
    "OIDC_CLIENT_ID": "chatproxy",
    "OIDC_CLIENT_SECRET": "a-client-secret-of-tests",
    "OIDC_DOMAINS": "example.com",
}


class OpenIDProvider:
    """A running OpenID provider. `issuer` is its name and address."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a gateway whose people sign in at this provider."""
        return {"OIDC_ISSUER": self.issuer, **CLIENT}

    def add_person(self, subject: str, **claims: object) -> None:
        """Adds a person with the given claims, or changes them; the e-mail address is verified by default."""
        known = {"email": f"{subject}@example.com", "email_verified": True, "name": subject.title(), **claims}
        answer = httpx2.put(f"{self.issuer}/users/{subject}", json=known, timeout=PATIENCE)
        assert answer.status_code == 204, answer.text


@contextmanager
def run_openid_provider() -> Iterator[OpenIDProvider]:
    """Runs an OpenID provider, yields it, and stops it when the block ends."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    environment = {**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        provider = OpenIDProvider(f"http://localhost:{port}")
        polling.wait_until(lambda: _answers(provider.issuer), PATIENCE, lambda: "the provider does not answer")
        yield provider
    finally:
        process.terminate()
        process.wait()


def _answers(issuer: str) -> bool:
    try:
        return httpx2.get(f"{issuer}/.well-known/openid-configuration", timeout=PATIENCE).status_code == 200
    except httpx2.TransportError:
        return False


def sign_in_at(browser: httpx2.Client, subject: str, wanted: str = "") -> httpx2.Response:
    """Signs a person in by single sign-on, as a browser without scripts would; returns the last page."""
    page = browser.get("/admin/login/", params={"next": wanted} if wanted else {})
    leave = browser.post("/admin/accounts/sso/login/", data={"csrfmiddlewaretoken": token_in(page), "next": wanted})
    if leave.status_code != 200:
        return leave
    address = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', leave.text)
    assert address is not None, leave.text
    form = browser.get(unescape(address[1]))
    return browser.post(urljoin(str(form.url), ""), data={"sub": subject})


def token_in(page: httpx2.Response) -> str:
    """Returns the token of Django's CSRF protection in a form of a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found is not None, page.text[-1000:]
    return found[1]
