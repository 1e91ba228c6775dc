"""The log: one JSON object in each line, whatever is sent, and no secret, body or query string in any of them.

Over 300 lines, since single records and whole servers are searched for the same planted secrets in the same spellings.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest
from django.db import connection
from django.http import HttpRequest
from django.test.client import RequestFactory
from django.utils.log import log_response

from chatproxy.configuration import setting_reader
from chatproxy.logs import JsonFormatter, log_everything, redacted_path
from tests.simulator.server import Simulator
from tests.support.callers.wire import connect
from tests.support.calls.routes import METHODS, routes
from tests.support.servers.environments import variables
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, UPSTREAM_KEY, Gateway, free_port

UNKNOWN = "Pl4nted-Secr3t-0f-Somebody"
PLANTED = (UNKNOWN, SECURITY_KEY, ACCESS_TOKEN, UPSTREAM_KEY, "cp-" + "Pl4nted0" * 6, "sk-proj-Pl4nted0Pl4nted0Pl4n")
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "encoded": lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
    "encoded twice": lambda secret: quote("".join(f"%{byte:02X}" for byte in secret.encode())),
    "upper case": str.upper,
    "with a line break": lambda secret: f'{secret}%0a{{"level":"INJECTED"}}',
    "with a control character": lambda secret: f"{secret}%1b[31m%00",
}
DJANGOS = ("/static/{}", "/static/{}/x.css", "/admin/{}/", "/admin/usage/request/{}/change/", "/my-usage/{}")
INJECTION = 'x\n{"level": "INJECTED"}\r\x1b[31m\u2028'


def format_record(name: str = "django.request", message: str = "%s", *args: Any, **extra: Any) -> dict[str, Any]:
    error = extra.pop("error", None)
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord(name, logging.WARNING, "file", 1, message, args, exc_info)
    vars(record).update(extra)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def request_of(path: str) -> HttpRequest:
    request = RequestFactory().get("/")
    request.path = path
    return request


def test_it_works() -> None:
    line = format_record("any.logger", "%d of %s", 3, "five", request_id="0190")

    assert (line["logger"], line["message"], line["request_id"]) == ("any.logger", "3 of five", "0190")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/static/usage/", "/static/usage/"),
        ("/static/pages.css", "/static/…"),
        (f"/static/{UNKNOWN}", "/static/…"),
        (f"/admin/usage/request/{UNKNOWN}/change/", "/admin/usage/request/…/change/"),
        ("/admin/auth/user/17/change/", "/admin/auth/user/17/change/"),
        ("/admin/x\ny/", "/admin/…/"),
        (
            "/admin/usage/request/01939f2a-7c1e-7000-8000-0123456789ab/change/",
            "/admin/usage/request/01939f2a-7c1e-7000-8000-0123456789ab/change/",
        ),
        ("/" + "a/" * 50, "/" + "a/" * 8 + "a"),
    ],
)
def test_of_a_path_what_cannot_be_a_secret_is_shown(path: str, shown: str) -> None:
    assert redacted_path(path) == shown
    assert format_record("django.request", "%s: %s", "Not Found", path, request=request_of(path))["message"] == (
        f"Not Found: {shown}"
    )


OWN_WITH_SLASHES = "abcd/efgh/ijkl/mnop"
SECRET_SEGMENTS = {
    "a key": "cp-" + "Pl4nted0" * 6,
    "an upstream key": "sk-proj-Pl4nted0Pl4nted0Pl4n",
    "an upstream key that is a UUID": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "the shortest secret, in small letters": "abcdefghijklmnop",
    "one with a digit": "abcdefghijklmno1",
    "a secret of the settings with slashes": OWN_WITH_SLASHES,
    "a header": "Authorization: Bearer abcdefgh",
    "a parameter": "api_key=abcdefgh",
    "a query": "x?key=abcdefgh",
}


@pytest.mark.parametrize("secret", SECRET_SEGMENTS.values(), ids=SECRET_SEGMENTS)
@pytest.mark.parametrize("spell", [str, quote, lambda text: quote(quote(text))], ids=["as it is", "encoded", "twice"])
def test_no_segment_of_a_path_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, secret: str, spell: Callable[[str], str]
) -> None:
    monkeypatch.setattr("chatproxy.logs._own_secrets", lambda: (OWN_WITH_SLASHES,))
    for before in range(12):
        shown = redacted_path("/v1" * before + f"/{spell(secret)}" + "/chat" * 12)
        assert {"", "v1", "…", "chat"} >= set(shown.split("/")), before
        assert shown.count("/") < 10


@pytest.mark.parametrize("path", [f"/static/{UNKNOWN}", f"/static/{UNKNOWN}\n{INJECTION}", f"/static/{UNKNOWN}ü"])
def test_djangos_own_line_about_a_path_is_without_it(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Django escapes the path in its own line about a request."""
    from django.http import HttpResponseNotFound  # what the line is about

    log_response("%s: %s", "Not Found", path, response=HttpResponseNotFound(), request=request_of(path))

    (record,) = caplog.records
    message = json.loads(JsonFormatter().format(record))["message"]
    assert message == "Not Found: /static/…"


def test_the_query_of_a_referer_is_left_out() -> None:
    reason = f"Referer checking failed - https://a.example/x?key={UNKNOWN}&b=1 does not match any trusted origins."
    line = format_record("django.security.csrf", "Forbidden (%s): %s", reason, "/admin/", request=request_of("/admin/"))

    assert line["message"].startswith("Forbidden (Referer checking failed - https://a.example/x?… does not match")
    assert UNKNOWN not in line["message"]


@pytest.mark.parametrize("secret", [SECURITY_KEY, ACCESS_TOKEN, *PLANTED[4:]])
@pytest.mark.parametrize("spelling", ["as it is", "encoded", "encoded twice"])
def test_a_known_secret_is_taken_out_of_any_line(secret: str, spelling: str) -> None:
    text = f"before {SPELLINGS[spelling](secret)} after"
    line = format_record("any.logger", "%s", text, error=raised(ValueError(text)))

    assert secret[-12:] not in json.dumps(line)
    assert SPELLINGS[spelling](secret)[-30:] not in json.dumps(line)
    assert line["message"].startswith("before ")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"first line\n{UNKNOWN}"),
        ValueError(f"invalid literal for int() with base 10: '{UNKNOWN} of a body'"),
        KeyError(UNKNOWN),
        UnicodeDecodeError("utf-8", UNKNOWN.encode(), 0, 1, "invalid start byte"),
        psycopg.errors.NotNullViolation(
            f'null value in column "name" of relation "usage_request" violates\nDETAIL:  Failing row ({UNKNOWN}).'
        ),
        psycopg.errors.InvalidTextRepresentation(f'invalid input syntax for type uuid: "{UNKNOWN}"\nLINE 1: {UNKNOWN}'),
        ExceptionGroup("several", [ValueError(f"one\n{UNKNOWN}"), KeyError(UNKNOWN)]),
        ValueError("x" * 400 + UNKNOWN),
    ],
    ids=repr,
)
def test_an_exceptions_words_have_no_value_in_them(error: BaseException) -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = raised(error)
    for shown in (raised(error), raised(outer)):
        line = format_record("any.logger", "failed", error=shown)

        assert UNKNOWN not in json.dumps(line)
        assert "Traceback (most recent call last):" in line["exception"]
        assert type(error).__name__ in line["exception"]


def test_what_an_exception_is_about_is_still_said() -> None:
    error = psycopg.errors.NotNullViolation('null value in column "name" of relation "usage_request" violates')

    assert 'column "name" of relation "usage_request"' in format_record("a", "b", error=error)["exception"]
    assert (
        "has no attribute 'foo'"
        in format_record("a", "b", error=AttributeError("it has no attribute 'foo'"))["exception"]
    )


def test_exceptions_that_lead_to_each_other_end() -> None:
    first, second = raised(ValueError("first")), raised(ValueError("second"))
    first.__context__, second.__context__ = second, first

    assert format_record("a", "b", error=first)["exception"].count("ValueError") == 2


def test_an_exception_without_words_of_its_own_is_a_line_all_the_same() -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise ValueError(UNKNOWN)

    assert "Wordless: …" in format_record("a", "b", error=Wordless())["exception"]


def test_a_line_whose_arguments_do_not_fit_is_a_line_without_them() -> None:
    assert format_record("a", "%d of %d", UNKNOWN)["message"] == "%d of %d (its arguments do not fit)"


def test_asyncio_shows_no_objects() -> None:
    message = f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{UNKNOWN}')>"

    assert format_record("asyncio", message)["message"] == "Task exception was never retrieved"


def test_a_line_break_cannot_be_injected() -> None:
    line = format_record("a", "said %s", INJECTION, error=raised(ValueError(INJECTION)), request_id=INJECTION)

    assert line["message"] == f"said {INJECTION}"


@pytest.mark.django_db
def test_the_databases_words_about_a_row_stay_there(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Exception, match=UNKNOWN) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT %s::uuid", [UNKNOWN])

    assert UNKNOWN not in json.dumps(format_record("a", "b", error=caught.value))


def test_what_python_would_print_is_a_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    log_everything()
    logging.captureWarnings(False)

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    assert [record.getMessage() for record in caplog.records] == ["a thread failed"]


# --- a server's console


def lines_of(gateway: Gateway) -> list[dict[str, Any]]:
    """Returns every line of the log after the banner, parsed as JSON."""
    start = gateway.log.index("{")
    return [json.loads(line) for line in gateway.log[start:].splitlines()]


def traces(text: str) -> list[str]:
    return [secret for secret in PLANTED if secret[:14] in text or secret[-14:] in text]


def test_no_route_writes_what_it_was_sent(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway(ADMIN_PASSWORD="test-admin-password")
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
        for secret in PLANTED:
            for spell in SPELLINGS.values():
                for path in (*DJANGOS, "/{}", "/v1/{}", "/openai2/{}"):
                    http.get(path.format(spell(secret)))
            headers = {
                "x-request-id": secret,
                "referer": f"https://a.example/?{secret}",
                "cookie": f"sessionid={secret}",
            }
            everywhere: dict[str, Any] = {
                "params": {"key": secret},
                "headers": {**headers, "authorization": f"Bearer {secret}"},
            }
            for path in [*routes(), *(django.format("x") for django in DJANGOS), "/admin/login/", "/my-usage/"]:
                for method in METHODS:
                    http.request(method, path, json={"security_key": secret, "model": secret}, **everywhere)
    gateway.stop()

    assert traces(gateway.log) == []
    lines = lines_of(gateway)
    assert {line["level"] for line in lines} <= {"INFO", "WARNING", "ERROR"}
    assert any(line["message"].startswith("Not Found: /static/") for line in lines)
    assert not [line for line in lines if "?" in line["message"] and "?…" not in line["message"]]


def test_what_is_no_http_writes_lines_of_ours_only(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    for sent in (
        f"GET /{UNKNOWN} {UNKNOWN}\r\n\r\n",
        f'GET / HTTP/1.1\r\n{UNKNOWN}\r\n{{"level": "INJECTED"}}\r\n\r\n',
    ):
        with connect(gateway) as wire:
            wire.send(sent.encode())
            assert wire.read_answer().status == 400
    gateway.stop()

    assert traces(gateway.log) == []
    assert {line["level"] for line in lines_of(gateway)} <= {"INFO", "WARNING"}


def test_no_process_has_a_secret_in_its_command_line(gateway: Gateway) -> None:
    for pid in (gateway.process.pid, *gateway.worker_pids):
        assert traces(Path(f"/proc/{pid}/cmdline").read_text()) == []


def test_a_redis_that_is_away_is_named_without_its_password(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(REDIS_URL=f"redis://user:{UNKNOWN}%2F@127.0.0.1:{free_port()}/0")
    gateway.wait_for_log("Redis is away")
    ready = gateway.http.get("/readyz").text
    gateway.stop()

    assert traces(gateway.log + ready) == []


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://user:{UNKNOWN}%2F@127.0.0.1:{free_port()}/name"
    server = subprocess.Popen(
        [sys.executable, "manage.py", "serve"],
        cwd=setting_reader.BASE_DIR,
        env=variables(tmp_path, DATABASE_URL=url, PORT=str(free_port())),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    said = server.stdout.readline()
    server.terminate()
    said += server.communicate(timeout=PATIENCE)[0]

    assert re.match(r"chatproxy: waiting for the database, up to 60 s: \S", said)
    assert traces(said) == []
