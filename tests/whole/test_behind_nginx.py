"""Served under a path, behind a real nginx that passes the path whole or takes it off: nothing leads out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from uuid import uuid4

import httpx2
import openai
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.all_pages import REFUSED, fill, hidden_fields, paths_of_pages, post
from tests.support.callers.link_walk import LinkWalk
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import (
    ACCESS_TOKEN,
    ADMIN_PASSWORD,
    PATIENCE,
    SECURITY_KEY,
    Gateway,
    free_port,
    run_gateway,
)
from tests.support.servers.nginx import run_nginx

ROOT = "/ai"
SERVER = """
server {{
    listen 127.0.0.1:{port};
    location {root}/ {{
        proxy_pass {upstream};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Prefix "{prefix}";
        proxy_buffering off;
    }}
}}
"""
# Who says what the path is.
TELLERS = ("the setting", "the header")
# What nginx does with the path: with a slash behind the address it takes it off.
STYLES = {"passed whole": "", "taken off": "/"}


class Site:
    """A gateway behind nginx: `origin` is nginx, `base` what clients are told, `session` the cookies of the admin."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.origin = f"http://127.0.0.1:{port}"
        self.base = self.origin + ROOT
        self.session: httpx2.Cookies | None = None


@pytest.fixture(scope="module", params=TELLERS)
def sites(
    request: pytest.FixtureRequest,
    _simulator: Simulator,
    gateway_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Site]]:
    """One gateway, once for each style of the proxy in front of it."""
    is_setting = request.param == "the setting"
    directory = tmp_path_factory.mktemp("site")
    (directory / "data").mkdir()
    with (
        new_database(gateway_database) as url,
        run_gateway(
            _simulator.base_url,
            url,
            directory / "data",
            TRUSTED_PROXIES="127.0.0.1",
            ADMIN_PASSWORD=ADMIN_PASSWORD,
            ROOT_PATH=ROOT if is_setting else "",
        ) as gateway,
    ):
        ports = {style: free_port() for style in STYLES}
        servers = [
            SERVER.format(port=ports[style], root=ROOT, upstream=gateway.url + slash, prefix="" if is_setting else ROOT)
            for style, slash in STYLES.items()
        ]
        some_url = f"http://127.0.0.1:{ports['taken off']}{ROOT}/healthz"
        with run_nginx("".join(servers), directory, some_url):
            yield {style: Site(gateway, port) for style, port in ports.items()}


@pytest.fixture(params=STYLES)
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


@pytest.fixture
def browser(site: Site) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.base, timeout=PATIENCE, follow_redirects=True) as browser:
        yield browser


@pytest.fixture
def admin(site: Site, browser: httpx2.Client) -> httpx2.Client:
    """A browser of somebody who came to the first page of the admin, and was led to the login and back.

    Logins are few: the password takes long, and a name has ten attempts.
    """
    if site.session is not None:
        browser.cookies = site.session
        return browser
    door = browser.get("/admin/")
    assert door.url.path == f"{ROOT}/admin/login/"
    form = {"username": "admin", "password": ADMIN_PASSWORD, **hidden_fields(door.text)}
    answer = browser.post(str(door.url), data=form)
    while answer.status_code == 503:  # on a busy machine a password takes longer than a page may wait
        answer = browser.post(str(door.url), data=form)
    assert str(answer.url) == f"{site.base}/admin/"
    site.session = httpx2.Cookies(browser.cookies)
    return browser


# A walk takes long: each way to say the path, and each style of a proxy, once.
@pytest.mark.parametrize(
    ("sites", "site"), [("the setting", "passed whole"), ("the header", "taken off")], indirect=True
)
def test_nothing_on_any_page_leads_out_of_the_path(site: Site, admin: httpx2.Client) -> None:
    """Every route of the pages, and whatever they lead to: links, forms, redirects, files, cookies, commands."""
    ids = fill(site.gateway, admin)
    walk = LinkWalk(admin, site.origin, ROOT)
    starts = [*paths_of_pages(ids), "/", "/docs", "/openapi.json", f"/log?access_token={ACCESS_TOKEN}", "/admin"]
    walk.walk([f"{ROOT}{path}" for path in starts])
    assert walk.escapes == set()
    failed = {path.removeprefix(ROOT): status for path, status in walk.visited.items() if status >= 400}
    assert [path for path in failed if not REFUSED.fullmatch(path)] == []
    assert len(walk.visited) > 100
    fetched = {path.rpartition(".")[2] for path in walk.visited if path.startswith(f"{ROOT}/static/")}
    assert {"css", "js", "svg", "woff2"} <= fetched


def test_forms_lead_on_below_the_path(site: Site, admin: httpx2.Client) -> None:
    """A key is made, shown with a command, rotated and revoked; the error is marked; somebody leaves."""
    walk = LinkWalk(admin, site.origin, ROOT)
    form = {"name": f"key-{uuid4().hex}", "log_bodies": "inherit"}
    shown = post(admin, "proxyapi/accesskey/add/", form, leads_on=False)
    assert f"curl {site.base}/v1/chat/completions \\" in unescape(shown.text)
    walk.look_at(shown)
    text = re.search(r'id="key-text"[^>]*>(cp-[^<]+)<', shown.text)
    assert text is not None
    change = re.search(rf"{ROOT}/admin(/proxyapi/accesskey/\d+/)change/", shown.text)
    assert change is not None
    rotated = post(admin, f"{change[1][1:]}rotate/", {"grace": "0"}, leads_on=False)
    revoked = post(admin, f"{change[1][1:]}revoke/", {})
    left = admin.post("/admin/logout/", data=hidden_fields(admin.get("/admin/").text))
    site.session = None
    for answer in (rotated, revoked, left, *revoked.history, *left.history):
        walk.look_at(answer)
    assert revoked.url.path == f"{ROOT}/admin{change[1]}change/"
    assert walk.escapes == set()


def test_a_key_sees_its_usage_below_the_path(site: Site, browser: httpx2.Client) -> None:
    walk = LinkWalk(browser, site.origin, ROOT)
    door = browser.get("/my-usage/")
    page = browser.post("/my-usage/sign-in", data={"key": SECURITY_KEY, **hidden_fields(door.text)})
    assert page.url.path == f"{ROOT}/my-usage/"
    assert "Newest calls" in page.text
    for answer in (door, *page.history, page, browser.get("/my-usage/data")):
        walk.look_at(answer)
    left = browser.post("/my-usage/sign-out", data=hidden_fields(page.text))
    for answer in (*left.history, left):
        walk.look_at(answer)
    assert 'name="key"' in left.text
    assert walk.escapes == set()
    assert set(walk.visited.values()) <= {200, 302}


def test_the_sdk_needs_only_the_base_url_with_the_path(site: Site) -> None:
    with openai.OpenAI(base_url=f"{site.base}/v1", api_key=SECURITY_KEY, max_retries=0, timeout=PATIENCE) as client:
        assert client.models.list().data
        completion = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
        assert completion.choices[0].message.content
        stored = client.responses.create(model="gpt-4o-mini", input="hi")
        assert client.responses.retrieve(stored.id).id == stored.id


def test_the_description_names_the_path(site: Site, browser: httpx2.Client) -> None:
    described = browser.get("/openapi.json").json()
    assert described["servers"] == [{"url": ROOT}]
    assert "/v1/models" in described["paths"]
    assert f'data-url="{ROOT}/openapi.json"' in browser.get("/docs").text


def test_cookies_of_another_application_on_the_host_do_no_harm(site: Site, admin: httpx2.Client) -> None:
    """Browsers send the cookie of the longest path first, and the one of the host's first page last."""
    own = "; ".join(f"{cookie.name}={cookie.value}" for cookie in admin.cookies.jar)
    others = "; ".join(f"{cookie.name}=of-another" for cookie in admin.cookies.jar)
    with httpx2.Client(timeout=PATIENCE) as http:
        page = http.get(f"{site.base}/admin/", headers={"cookie": f"{own}; {others}"})
    assert (page.status_code, "Dashboard" in page.text) == (200, True)
