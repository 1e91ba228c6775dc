"""No answer of upstream runs as a page in a browser that is signed in to the admin; pages of other sites can still read
answers."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from playwright.sync_api import Browser, Page, Request

from tests.browser.conftest import PASSWORD
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

# Reads what only the admin may see, with the admin's cookie, as far as the browser lets it.
SCRIPT = """
    document.documentElement.setAttribute('data-ran', 'yes');
    const asking = new XMLHttpRequest();
    asking.open('GET', '/admin/proxyapi/accesskey/', false);
    try { asking.send(); document.documentElement.setAttribute('data-read', asking.responseText.length); } catch {}
"""
HTML = f"<html><head><title>t</title></head><body onload='void 0'><script>{SCRIPT}</script></body></html>"
XHTML = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><script><![CDATA[{SCRIPT}]]></script></body></html>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg"><script><![CDATA[{SCRIPT}]]></script></svg>'
FRAMED = f'<html><body><iframe srcdoc="{HTML.replace(chr(34), "&quot;")}"></iframe></body></html>'
DOCUMENTS = {
    "html": ("text/html", HTML),
    "html-frame": ("text/html", FRAMED),
    "html-charset": ("Text/HTML; charset=utf-8", HTML),
    "guessed": ("", HTML),
    "xhtml": ("application/xhtml+xml", XHTML),
    "xml": ("application/xml", XHTML),
    "text-xml": ("text/xml; charset=utf-8", XHTML),
    "svg": ("image/svg+xml", SVG),
    "svg-as-xml": ("application/xml", SVG),
}
# A page of a stranger's, on another site: his key, his form, the browser of somebody who is signed in to the admin.
FORM = """<html><body><form method="post" enctype="multipart/form-data" action="{url}/openai/audio/transcriptions">
<input name="security_key" value="{key}"><input name="model" value="whisper-1"><input name="file" type="file"></form>
</body></html>"""
SUBMIT = """() => {
    const files = new DataTransfer();
    files.items.add(new File(['ID3'], 'a.mp3', {type: 'audio/mpeg'}));
    document.querySelector('[type=file]').files = files.files;
    document.forms[0].submit();
}"""
FETCH = """async ([url, key]) => {
    const options = {method: 'POST', headers: {Authorization: `Bearer ${key}`, 'Content-Type': 'application/json'},
        body: JSON.stringify({model: 'm', messages: [{role: 'user', content: 'hi'}]})};
    const answer = await fetch(url, options);
    return [answer.status, await answer.text(), answer.headers.get('x-proxy-request-id') !== null];
}"""


class Documents(socketserver.ThreadingTCPServer):
    """A server that answers GET with `page`, and POST with `document` as `content_type`."""

    daemon_threads = True
    page = ""
    content_type = ""
    document = ""


class Answer(BaseHTTPRequestHandler):
    server: Documents

    def do_GET(self) -> None:
        self.answer("text/html", self.server.page)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer(self.server.content_type, self.server.document)

    def answer(self, content_type: str, text: str) -> None:
        self.send_response(200)
        if content_type:
            self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(text.encode())))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def serve_documents() -> Iterator[Documents]:
    with Documents(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Documents, Documents]]:
    """Starts an upstream and the site of a stranger."""
    with ExitStack() as stack:
        yield stack.enter_context(serve_documents()), stack.enter_context(serve_documents())


@pytest.fixture(scope="module")
def scripted(
    servers: tuple[Documents, Documents], gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    upstream = f"http://127.0.0.1:{servers[0].server_address[1]}/v1"
    folder = tmp_path_factory.mktemp("scripted")
    with (
        new_database(gateway_database) as url,
        run_gateway(upstream, url, folder, ADMIN_PASSWORD=PASSWORD) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def page(chromium: Browser, scripted: Gateway) -> Iterator[Page]:
    """Opens a page in a browser that is signed in to the admin."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{scripted.url}/admin/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.click("[type=submit]")
    page.wait_for_selector(".cp")
    yield page
    context.close()


def open_strangers_page(page: Page, site: Documents, text: str) -> None:
    """Opens the stranger's page: for a browser, `localhost` and `127.0.0.1` are two sites."""
    site.page = text
    page.goto(f"http://localhost:{site.server_address[1]}/")


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_nothing_in_an_answer_runs_on_the_admins_origin(
    page: Page, scripted: Gateway, servers: tuple[Documents, Documents], kind: str
) -> None:
    upstream, site = servers
    upstream.content_type, upstream.document = DOCUMENTS[kind]
    asked: list[str] = []

    def listener(request: Request) -> None:
        asked.append(request.url)

    open_strangers_page(page, site, FORM.format(url=scripted.url, key=SECURITY_KEY))
    page.on("request", listener)
    with page.expect_navigation(wait_until="load") as navigation:
        page.evaluate(SUBMIT)
    page.remove_listener("request", listener)

    answer = navigation.value
    assert answer.status == 200
    assert answer.request.method == "POST"
    assert answer.text() == upstream.document
    assert page.url == f"{scripted.url}/openai/audio/transcriptions"
    for frame in page.frames:
        assert frame.locator("[data-ran]").count() == 0
    assert [url for url in asked if "/admin/" in url] == []
    # The admin's cookie was there to be used.
    page.goto(f"{scripted.url}/admin/proxyapi/accesskey/")
    assert page.locator(".cp, #changelist").count() > 0


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "image/svg+xml", ""])
def test_a_page_of_another_origin_reads_an_answer(
    page: Page, scripted: Gateway, servers: tuple[Documents, Documents], content_type: str
) -> None:
    upstream, site = servers
    upstream.content_type, upstream.document = content_type, '{"object": "chat.completion"}'
    open_strangers_page(page, site, "<html></html>")

    read = page.evaluate(FETCH, [f"{scripted.url}/openai", SECURITY_KEY])
    assert read == [200, upstream.document, True]
    read = page.evaluate(FETCH, [f"{scripted.url}/v1/chat/completions", SECURITY_KEY])
    assert read == [200, upstream.document, True]
