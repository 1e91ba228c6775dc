"""Members of JSON objects that strict parsers refuse, or that parsers read differently."""

from __future__ import annotations

DEEP = "[" * 100_000 + "]" * 100_000
# What may stand in an answer that an orderly server would not send.
ODD: dict[str, bytes] = {
    "lone surrogate": rb'"choices": [{"message": {"content": "\ud800"}}], ',
    "NaN": b'"logprobs": [NaN, -Infinity], ',
    "not UTF-8": b'"choices": [{"message": {"content": "\xff\xfe"}}], ',
    "surrogate in UTF-8": b'"choices": "\xed\xa0\x80", ',
    "control character": b'"choices": "a\nb\x00", ',
    "deep": b'"choices": ' + DEEP.encode() + b", ",
    "deep objects": b'"choices": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b", ",
    "large integer": b'"created": 1180591620717411303424, ',
    "integer of 5,000 digits": b'"created": ' + b"7" * 5000 + b", ",
    "large exponent": b'"created": 1e999999, ',
    "name twice": b'"id": "chatcmpl-0", "id": "chatcmpl-1", ',
    "escaped names": rb'"\u0069d": "chatcmpl-1", "choices": "\ud800", ',
}
