"""No secret that the ledger could know of stays in a text, however it is written; everything else does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.inputs.secrets import (
    EXTRA,
    ODD_SECRET,
    SECURITY_KEY,
    TOKENS,
    WRITINGS,
    as_unicode_escapes,
    surroundings,
)
from usage.kept_bodies.redaction import REDACTED, is_secret_name, redact

SHORT_TOKENS = ("sk-abcdefghijklmnop", "sess-abcdefghijklmnop", "cp-" + "a" * 43, "cpt-" + "a" * 43)
NAMES = (
    "security_key",
    "openai_api_key",
    "api_key",
    "access_token",
    "authorization",
    "API_KEY",
    "Authorization",
    "X-Security-Key",
    "apiKey",
    "refresh_token",
    "client_secret",
    "signing_secret",
    "secret_value",
)
VALUES = (
    "hunter2",
    "x",
    "two words",
    'a "quote" in it',
    "back\\slash",
    "ключ",
    "a&b=c",
    "a,b}c]",
    "Bearer abc",
    "it's",
)


def as_url_escapes(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


PLACES = [
    "{}",
    "My key is {}.",
    "({})",
    "key={}&model=x",
    "https://x.test/?k={}#top",
    '{{"key":"{}"}}',
    '{{"content":"line\\n{}\\nline"}}',
    '{{"content":"tab\\t{}\\u0021"}}',
    r'{{"arguments":"{{\"key\":\"{}\"}}"}}',
    "%20{}%20",
    "a%0A{}",
    "<{}>",
    "_{}_",
    "-{}",
    "日本{}語",
    "İİ{}İ",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", [*TOKENS, *SHORT_TOKENS])
def test_a_token_is_found_in_any_place(token: str, place: str) -> None:
    redacted = redact(place.format(token))

    assert REDACTED in redacted
    assert token not in redacted
    assert token[-12:] not in redacted


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("escape", [as_unicode_escapes, as_url_escapes])
@pytest.mark.parametrize("part", [slice(0, 1), slice(0, 3), slice(2, 9), slice(None)])
def test_an_escaped_token_is_found(token: str, escape: Callable[[str], str], part: slice) -> None:
    escaped = token.replace(token[part], escape(token[part]), 1)

    assert redact(f"a {escaped} b") == f"a {REDACTED} b"
    assert redact(f'{{"a":"{escaped}"}}') == f'{{"a":"{REDACTED}"}}'


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_found_inside_a_word(token: str) -> None:
    assert redact(f"A1b{token}") == f"A1b{REDACTED}"


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("secret", EXTRA)
@pytest.mark.parametrize("place", PLACES)
def test_a_configured_secret_is_found_however_it_is_written(
    secret: str, writing: Callable[[str], str], place: str
) -> None:
    written = writing(secret)

    assert redact(place.format(written), EXTRA) == place.format(REDACTED)


@pytest.mark.parametrize("escape", [as_unicode_escapes, as_url_escapes])
def test_a_configured_secret_is_found_all_escaped(escape: Callable[[str], str]) -> None:
    assert redact(f"x{escape(SECURITY_KEY)}x", EXTRA) == f"x{REDACTED}x"
    assert redact(f"x{escape(SECURITY_KEY).upper().replace('U00', 'u00')}x", EXTRA) == f"x{REDACTED}x"


def test_a_configured_secret_inside_a_token_takes_nothing_from_it() -> None:
    assert redact(f"a {TOKENS[1]} b", ["proj", "xY9-"]) == f"a {REDACTED} b"
    assert redact(f"a \\u0073{TOKENS[1][1:]} b", ["proj", "xY9-"]) == f"a {REDACTED} b"


def test_a_configured_secret_with_a_comma_is_taken_whole_from_a_header() -> None:
    assert redact("api-key: one,two", ["one,two"]) == f"api-key: {REDACTED}"


@pytest.mark.parametrize("extra", [[], [""], ["a"], ["abc"]])
def test_a_configured_secret_too_short_is_left_alone(extra: list[str]) -> None:
    assert redact("abc a", extra) == "abc a"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_found_by_its_name_in_nested_json(name: str, value: str) -> None:
    def nest(body: object, levels: int, *, ascii_only: bool) -> str:
        for _ in range(levels - 1):
            body = {"arguments": json.dumps(body, ensure_ascii=ascii_only)}
        return json.dumps(body, ensure_ascii=ascii_only)

    for levels, ascii_only in itertools.product([1, 2, 3, 4], [True, False]):
        nested = nest({"a": "b", name: value, "c": "d"}, levels, ascii_only=ascii_only)
        assert redact(nested) == nest({"a": "b", name: REDACTED, "c": "d"}, levels, ascii_only=ascii_only)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_found_by_its_name_in_a_form_or_a_query(name: str, value: str) -> None:
    fields = urlencode({"model": "x", name: value, "prompt": "y"})

    assert redact(fields) == f"model=x&{name}={REDACTED}&prompt=y"
    assert redact(f"See https://x.test/?{fields} now") == f"See https://x.test/?model=x&{name}={REDACTED}&prompt=y now"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), as_url_escapes])
def test_a_value_is_found_by_its_name_in_an_encoded_url(name: str, value: str, encode: Callable[[str], str]) -> None:
    inner = urlencode({name: value})
    redacted = redact("https://x.test/?next=" + encode("https://y.test/?" + inner))

    assert redacted == "https://x.test/?next=" + encode(f"https://y.test/?{name}=") + REDACTED


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"api_key" : "abc"}', '{"api_key" : "[redacted]"}'),
        ('{"api_key":\n  "abc"}', '{"api_key":\n  "[redacted]"}'),
        (r'{"api\u005fkey":"abc"}', r'{"api\u005fkey":"[redacted]"}'),
        (r'{"\u0061pi_key":"a\u0022bc"}', r'{"\u0061pi_key":"[redacted]"}'),
        (r"\u0022api_key\u0022:\u0022abc\u0022,", r"\u0022api_key\u0022:\u0022[redacted]\u0022,"),
        ("%7B%22api_key%22%3A%22abc%22%7D", "%7B%22api_key%22%3A%22[redacted]%22%7D"),
        ('{"api_key":["abc"]}', '{"api_key":["[redacted]"]}'),
        ('{"api_key":12345,"a":1}', '{"api_key":[redacted],"a":1}'),
        ('{"security_key":"abc', '{"security_key":"[redacted]'),
        ("{'api_key': 'abc'}", "{'api_key': '[redacted]'}"),
        ('os.environ["OPENAI_API_KEY"] = "abc"', 'os.environ["OPENAI_API_KEY"] = "[redacted]"'),
        ("İİİ api_key=abc&b=c", "İİİ api_key=[redacted]&b=c"),
        ("export OPENAI_API_KEY=abc", "export OPENAI_API_KEY=[redacted]"),
        ("headers[authorization]=abc&b=c", "headers[authorization]=[redacted]&b=c"),
        ("api_key[0]=abc&b=c", "api_key[0]=[redacted]&b=c"),
        ("api_key=>'abc'", "api_key=>'[redacted]'"),
        ("?api_key=a\\/b&c=d", "?api_key=[redacted]&c=d"),
        (r'{"url":"https://x/?api_key=abc\u0026model=y"}', r'{"url":"https://x/?api_key=[redacted]\u0026model=y"}'),
        ("curl -H 'Authorization: Bearer abc' x", "curl -H 'Authorization: [redacted] x"),
        ('-H "Authorization: Bearer abc" x', '-H "Authorization: [redacted]" x'),
        ("authorization=Bearer+abc&a=b", "authorization=[redacted]&a=b"),
        ("Authorization%3A%20Basic%20abc", "Authorization%3A%20[redacted]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: [redacted]"),
        ("BEARER eyJhbGciOi.eyJzdWIi.abc_-", "BEARER [redacted]"),
        ("a bearer abc123 b", "a bearer [redacted] b"),
        (r"Bearer\nabc123DEF", r"Bearer\n[redacted]"),
        ("Bearer%20abcDEFghi", "Bearer%20[redacted]"),
        # Secrets that upstream issues, and those that a request hands on.
        ('{"value":"ek_68af296e8e408191a1120ab6383263c2"}', '{"value":"[redacted]"}'),
        ('{"domain_secrets":[{"name":"T","value":"a]b"}]}', '{"domain_secrets":[{"name":"T","value":"[redacted]"}]}'),
        (
            '{"input":"{\\"type\\":\\"browser_authentication\\",\\"fields\\":[{\\"value\\":\\"a b\\"}]}"}',
            '{"input":"{\\"type\\":\\"browser_authentication\\",\\"fields\\":[{\\"value\\":\\"[redacted]\\"}]}"}',
        ),
        # Passwords in URLs.
        ("https://user:pass@host.test/x", "https://user:[redacted]@host.test/x"),
        ("https://:p@ss@host.test", "https://:[redacted]@host.test"),
        (r'{"u":"https:\/\/user:pass@host"}', r'{"u":"https:\/\/user:[redacted]@host"}'),
        (r'"{\"u\":\"https:\\/\\/user:pass@host\"}"', r'"{\"u\":\"https:\\/\\/user:[redacted]@host\"}"'),
        ("https%3A%2F%2Fuser%3Apass%40host", "https%3A%2F%2Fuser%3A[redacted]%40host"),
    ],
)
def test_syntaxes(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task-force, risk-averse, desk-bound and disk-to-disk; sk-learn, sk-SK",
        "task-force-members-of-the-united-nations-security-council",
        "risk-averse_investors_in_emerging_markets_2024",
        "A CP-violation; cp-1252; gcp-us-central1; cp-r and a possess-ion, sess-1",
        "https://x.test/dhcp-server-configuration-on-ubuntu-made-easy-step-by-step-guide",
        "The bearer of bad news asked for bearer authentication, bearer instruments and a Bearer token.",
        "An api_key is needed. What is an access_token? Authorization is hard; the API key too.",
        '{"required":["api_key"],"properties":{"api_key":{"type":"string"}}}',
        '{"api_key":null,"access_token": true}',
        "def f(api_key: str, access_token: str = None): ...",
        "interface A { apiKey: string; }",
        '{"api_keys": 5, "api_key_id": "key_1", "monkey": "x", "max_tokens": 5, "key": "y"}',
        '{"value":"red","client_secret_id": "x","secret":"of success"} A client_secret, a refresh_token.',
        "http://host:8080/a@b, mail to a:b@c.d, seek_the_week_of_a_long_name_without_end, https://u@host:80/:x@",
        "100% sure, 50%25, %41%42 and \\u0041\\u0042 and C:\\users\\u0041",
        '{"a":"\\u00e9\\ud83d\\ude00\\u0000"}',
        "\ud800 lone \udfff and \0",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, EXTRA) == text


def test_names() -> None:
    assert all(map(is_secret_name, [*NAMES, "security%5Fkey", "utf-8''security%255fkey", "extra[api_key]"]))
    assert not any(map(is_secret_name, ["", "key", "prompt", "model", "token"]))


@given(surroundings, st.sampled_from([*TOKENS, SECURITY_KEY, ODD_SECRET]), surroundings)
def test_a_planted_secret_never_survives(before: str, secret: str, after: str) -> None:
    assert secret not in redact(before + secret + after, EXTRA)


@given(surroundings, st.sampled_from([*TOKENS, *EXTRA]), st.sampled_from(WRITINGS), surroundings)
def test_a_planted_secret_never_survives_however_it_is_written(
    before: str, secret: str, writing: Callable[[str], str], after: str
) -> None:
    # "%" or "\" right before it would make another text of it.
    written = writing(secret)
    assert written not in redact(f"{before} {written} {after}", EXTRA)


@given(surroundings)
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    once = redact(text, EXTRA)
    assert redact(once, EXTRA) == once


@given(st.text(st.characters(exclude_characters="=:%\\"), max_size=200).filter(lambda text: "-" not in text))
def test_other_text_stays(text: str) -> None:
    """Without a `=` or a `:` there is no named value, without a `-` no token."""
    if "bearer" not in text.lower():
        assert redact(text) == text


@given(st.lists(st.tuples(surroundings, st.sampled_from(["%41", r"\u0062", r"\\u0063", "%22", "%25"])), max_size=6))
def test_escapes_stay_as_they_came(parts: list[tuple[str, str]]) -> None:
    """What is taken out is taken out of the text as it came: the rest is in it, in order."""
    text = "".join(part + escape for part, escape in parts)
    at = 0
    for kept in redact(text, EXTRA).split(REDACTED):
        at = text.find(kept, at)
        assert at >= 0 or REDACTED in text
        at += len(kept)
