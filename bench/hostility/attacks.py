"""The attacks, as data: the bytes that a hostile client sends, and how its connections behave.

Requests are built once, before the attack. They are sent in pieces of about 64 KiB at most, and all connections of an
attack share one line of limited speed (`bench.hostility.stranger`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from bench.stand.requests import MIB

Pieces = tuple[bytes, ...]
KIB = 1024
PIECE = 64 * KIB
FORM = "multipart/form-data; boundary=b"
VIEWS = ("/healthz", "/", "/readyz", "/docs", "/log", "/metrics", "/usage")
MANY_ADDRESSES = 64


class Attack(NamedTuple):
    """The description of one attack: the requests that a hostile client sends, and what its connections do.

    requests: each is a tuple of pieces. A client's connections begin with different requests, and each new connection
    that replaces an old one sends the next request.

    connections: how many are open at the same time; they come from `addresses` IP addresses.

    then: what a connection does after sending a request. `again`: reads an answer, closes, and a new connection begins.
    `same`: reads an answer and sends the request again. `hold`: reads until the server closes the connection, and a new
    one begins. `stay`: reads until the server closes it, and no new one begins.

    pause: seconds between two pieces. reads: False if the client never reads an answer. memory: how many bytes of the
    attack the server holds in memory by design. lead: for how many seconds the attack runs before good calls are
    measured.
    """

    name: str
    requests: tuple[Pieces, ...]
    connections: int
    then: Literal["again", "same", "hold", "stay"] = "again"
    pause: float = 0.0
    reads: bool = True
    addresses: int = 1
    memory: int = 0
    lead: float = 5.0


def strangers() -> list[Attack]:
    """Returns the attacks by clients without a valid key."""
    small_chat = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'
    held = (with_length("POST", "/openai", 48 * MIB, [b"x" * PIECE] * (47 * 16)),)
    idle = ((head("GET", "/healthz"),),)
    wrong = with_body("POST", "/v1/chat/completions", small_chat, "Authorization: Bearer cp-" + "x" * 43)
    return [
        Attack(
            "chunked 290 MiB to /admin/login/, /static/x, /my-usage/, foreign Host",
            tuple(endless(path) for path in ("/admin/login/", "/static/x", "/my-usage/")),
            connections=3,
        ),
        Attack(
            "50 MB of `[]` to GET " + ", ".join(VIEWS),
            tuple(with_length("GET", path, *many_lists(50_000_000)) for path in VIEWS),
            connections=1,
        ),
        Attack("70 kB with 10,000 `cp-` to /openai", (many_keys("application/json"),), connections=8),
        Attack("70 kB with 10,000 `cp-` as text/plain, as a web page may", (many_keys("text/plain"),), connections=8),
        Attack("24 bodies of 47 MiB, held, /openai", held, connections=24, then="hold", memory=128 * MIB, lead=15),
        Attack(
            f"64 bodies of 47 MiB, held, /openai, {MANY_ADDRESSES} addresses",
            held,
            connections=MANY_ADDRESSES,
            then="hold",
            addresses=MANY_ADDRESSES,
            memory=128 * MIB,
            lead=15,
        ),
        Attack(
            "500 bodies, one byte in 5 s each, /openai",
            (with_length("POST", "/openai", 10_000, [b"x"] * 10_000),),
            connections=500,
            pause=5.0,
            addresses=MANY_ADDRESSES,
        ),
        Attack(
            "1,000 heads, one byte in 5 s each",
            (tuple(bytes((byte,)) for byte in head("GET", "/healthz", "X-Padding: " + "x" * 5000)),),
            connections=1000,
            pause=5.0,
            addresses=MANY_ADDRESSES,
        ),
        Attack("3,000 idle connections after one GET /healthz", idle, connections=3000, then="stay"),
        Attack(
            f"3,000 idle connections after one GET /healthz, {MANY_ADDRESSES} addresses",
            idle,
            connections=3000,
            then="stay",
            addresses=MANY_ADDRESSES,
        ),
        Attack("new connections with one GET /healthz, 64 at once", idle, connections=64),
        Attack("wrong keys, 64 connections", (wrong,), connections=64, then="same"),
        Attack(
            f"wrong keys, 64 connections, {MANY_ADDRESSES} addresses",
            (wrong,),
            connections=64,
            then="same",
            addresses=MANY_ADDRESSES,
        ),
        Attack(
            "150 readers of static files and /docs that never read",
            tuple(
                (head("GET", path) * 50,)
                for path in ("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js", "/openapi.json")
            ),
            connections=150,
            then="hold",
            reads=False,
            addresses=MANY_ADDRESSES,
        ),
        Attack(
            "Upgrade: h2c with a request in its body",
            (with_body("POST", "/v1/models", head("GET", "/healthz"), "Connection: Upgrade", "Upgrade: h2c"),),
            connections=16,
        ),
        Attack("heads of 60 kB", (in_pieces(head("GET", "/x", "X-Padding: " + "x" * 60_000)),), 16, "same"),
        Attack("heads of 1 MB", (in_pieces(head("GET", "/x", "X-Padding: " + "x" * 1_000_000)),), 16),
        Attack(
            "15,000 header lines of 4 bytes",
            (in_pieces(b"GET /x HTTP/1.1\r\nHost: bench\r\n" + b"a:\r\n" * 15_000),),
            16,
        ),
        Attack("a Content-Type of 60 kB of `;`", (semicolons("/v1/chat/completions"), semicolons("/openai")), 16),
        Attack("chunks of one byte, without end, /openai", (chunks(b"1\r\na\r\n"),), 16),
        Attack("trailers without end, /openai", (chunks(b"a: b\r\n" * 1000, before=b"0\r\n"),), 16),
        Attack("GET /admin/login/, 16 connections", ((head("GET", "/admin/login/", host="localhost"),),), 16, "same"),
        Attack(
            f"GET /admin/login/ with a made-up session, {MANY_ADDRESSES} addresses",
            ((head("GET", "/admin/login/", "Cookie: chatproxy_session=" + "a" * 32, host="localhost"),),),
            connections=MANY_ADDRESSES,
            then="same",
            addresses=MANY_ADDRESSES,
        ),
        Attack(
            f"logins, 64 connections, {MANY_ADDRESSES} addresses",
            (login(),),
            connections=64,
            addresses=MANY_ADDRESSES,
        ),
        Attack("15,000 names in a query, /usage", (in_pieces(head("GET", "/usage?" + query(15_000))),), 16, "same"),
    ]


def key_holders(key: str) -> list[Attack]:
    """Returns the attacks by a client that has a valid key (`key`) with limits."""
    bearer = f"Authorization: Bearer {key}"
    members = b"{" + b",".join(b'"m%d":0' % number for number in range(1_000_000)) + b"}"
    numbers = b"[" + b",".join([b"7" * 4299] * 2000) + b"]"
    return [
        Attack(f"50 MB of `[]` to {path}", (with_length("POST", path, *many_lists(50_000_000), bearer),), connections=1)
        for path in ("/v1/chat/completions", "/openai")
    ] + [
        Attack("a million members to /openai", (with_body("POST", "/openai", members, bearer),), connections=1),
        Attack(
            "2,000 numbers of 4,299 digits to /openai",
            (with_body("POST", "/openai", b'{"n":' + numbers + b"}", bearer),),
            connections=1,
        ),
    ]


def head(method: str, target: str, *headers: str, host: str = "bench") -> bytes:
    """Builds the head of a request: the request line, the headers and the empty line, as bytes."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def with_body(
    method: str, path: str, body: bytes, *headers: str, content_type: str = "application/json", host: str = "bench"
) -> Pieces:
    """Builds a request with a body and the right Content-Length, cut into pieces of at most 64 KiB."""
    about = (f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
    return in_pieces(head(method, path, *about, *headers, host=host) + body)


def with_length(method: str, path: str, length: int, body: list[bytes], *headers: str) -> Pieces:
    """Builds a request, in pieces, whose Content-Length header has the value `length`.

    `body` are the pieces of the body, which may be shorter than that.
    """
    return (head(method, path, "Content-Type: application/json", f"Content-Length: {length}", *headers), *body)


def endless(path: str) -> Pieces:
    """Builds, in pieces, a POST of a chunked form of 290 MiB, with a Host header that the server does not accept."""
    chunk = b"%x\r\n%b\r\n" % (PIECE, b"x" * PIECE)
    start = head("POST", path, f"Content-Type: {FORM}", "Transfer-Encoding: chunked", host="evil.example")
    return (start, *[chunk] * (290 * 16))


def many_lists(size: int) -> tuple[int, list[bytes]]:
    """Builds a JSON object of about `size` bytes that has a list of empty lists.

    Returns its exact length in bytes, and its bytes in pieces.
    """
    piece = b"[]," * (PIECE // 3)
    pieces = [b'{"a":[', *[piece] * (size // len(piece)), b"[]]}"]
    return sum(map(len, pieces)), pieces


def many_keys(content_type: str) -> Pieces:
    """Builds, in pieces, a POST to `/openai` whose body has 10,000 strings that begin like a key of the gateway."""
    body = b'{"security_key":"wrong","x":"' + b"cp-aaaa" * 10_000 + b'"}'
    return with_body("POST", "/openai", body, content_type=content_type)


def semicolons(path: str) -> Pieces:
    """Builds, in pieces, a POST to `path` whose Content-Type has 60,000 semicolons."""
    return with_body("POST", path, b"{}", content_type="a/b" + ";" * 60_000)


def chunks(content: bytes, *, before: bytes = b"") -> Pieces:
    """Builds, in pieces, a POST to `/openai` with a chunked body.

    The body is one chunk of a kilobyte, then `before`, then 64 MiB of repeated `content`.
    """
    start = head("POST", "/openai", "Content-Type: application/json", "Transfer-Encoding: chunked")
    return (start + b"400\r\n" + b" " * KIB + b"\r\n" + before, *[content * (PIECE // len(content))] * 1024)


def login() -> Pieces:
    """Builds, in pieces, a POST request that tries to sign in to the admin with a wrong password.

    It has a made-up CSRF token, both in the cookie and in the form, which Django accepts. So the server does check the
    password.
    """
    token = "a" * 32
    form = f"csrfmiddlewaretoken={token}&username=admin&password=wrong".encode()
    kind = "application/x-www-form-urlencoded"
    cookie = f"Cookie: chatproxy_csrf={token}"
    return with_body("POST", "/admin/login/", form, cookie, content_type=kind, host="localhost")


def query(names: int) -> str:
    """Builds a query string of `names` parameters, each of them without a value."""
    return "&".join(f"{number}=" for number in range(names))


def in_pieces(content: bytes) -> Pieces:
    """Cuts the bytes of a request into pieces of at most 64 KiB."""
    return tuple(content[at : at + PIECE] for at in range(0, len(content), PIECE))
