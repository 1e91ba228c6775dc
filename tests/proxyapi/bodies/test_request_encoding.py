"""An encoded request body is decoded to what was encoded, in bounded steps, or refused in words."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies import large_bodies, request_encoding
from proxyapi.bodies.decoding import MAX_STEP_BYTES
from proxyapi.bodies.request_encoding import MAX_MEMBERS, BodyDecoder, TooLarge, decode, decode_now, encoding_of
from proxyapi.exceptions import BadRequest, UnsupportedMediaType
from tests.support.inputs.encodings import ENCODINGS, bare, members, two_readings

MIB = 1024 * 1024
TEXTS = st.one_of(st.binary(max_size=300), st.builds(bytes, st.integers(0, 300_000)))
PACKED = [(value, pack) for value, pack in ENCODINGS.values() if encoding_of({"HTTP_CONTENT_ENCODING": value})]


def named(value: str) -> str:
    return encoding_of({"HTTP_CONTENT_ENCODING": value})


@given(st.sampled_from(PACKED), TEXTS, st.integers(1, 10_000))
def test_what_was_encoded_comes_out_however_it_is_cut(packed: tuple[str, Any], text: bytes, cut: int) -> None:
    value, pack = packed
    text = text if pack is not members else text[:7000]
    sent = pack(text) if text or pack is not members else gzip.compress(b"", mtime=0)
    decoder, found = BodyDecoder(named(value), MIB), []
    for at in range(0, len(sent), cut):
        for piece in decoder.steps(sent[at : at + cut]):
            assert len(piece) <= MAX_STEP_BYTES
            found.append(piece)
    decoder.end()

    assert b"".join(found) == text == decode_now(sent, named(value), MIB)
    assert decoder.size == len(text)


@given(st.sampled_from(PACKED), st.binary(min_size=1, max_size=200), st.data())
def test_what_is_torn_or_has_more_behind_it_is_refused(
    packed: tuple[str, Any], text: bytes, data: st.DataObject
) -> None:
    value, pack = packed
    sent = pack(text)
    torn = sent[: data.draw(st.integers(0, len(sent) - 1))]
    more = sent + data.draw(st.binary(min_size=1, max_size=20).filter(lambda rest: not rest.startswith(b"\x1f\x8b")))
    whole_members = {sum(map(len, map(gzip.compress, cuts(text)[:count]))) for count in range(1, len(cuts(text)) + 1)}
    for bad in (torn, more):
        if pack is members and len(bad) in whole_members:
            continue  # as many members as are here are whole
        with pytest.raises(BadRequest, match="The request body is not valid") as caught:
            decode_now(bad, named(value), MIB)
        assert caught.value.code == "bad_encoding"


def cuts(text: bytes) -> list[bytes]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", b'{"a":1}', "cannot be decoded"),
        ("gzip", zlib.compress(b"{}"), "cannot be decoded"),
        ("gzip", bare(b"{}"), "cannot be decoded"),
        ("deflate", gzip.compress(b"{}", mtime=0), "cannot be decoded"),
        ("deflate", b'{"a":1}', "ends too early"),
        ("deflate", zlib.compress(b"{}") * 2, "more behind its end"),
        ("deflate", bare(b"{}") * 2, "more behind its end"),
        ("gzip", gzip.compress(b"{}", mtime=0) + bytes(10), "cannot be decoded"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], "ends too early"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-8] + bytes(8), "cannot be decoded"),
        ("gzip", gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 100), "more than 1024 members"),
        ("deflate", two_readings(b'{"a":1}', b'{"b":1}'), "in two ways"),
        ("deflate", two_readings(b"", b"x" * 1_000_000), "in two ways"),
    ],
)
def test_what_is_wrong_is_said(encoding: str, body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        decode_now(body, encoding, MIB)


def test_bytes_with_two_readings_have_them() -> None:
    """Else the refusal above would be of something else."""
    sent = two_readings(b'{"a":1}', b'{"b":1}')

    assert zlib.decompress(sent).endswith(b'{"a":1}')
    assert zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(sent).endswith(b'{"b":1}')


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bare])
def test_a_bomb_is_left_at_the_cap(pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    assert len(decode_now(pack(bytes(MIB)), encoding, MIB)) == MIB
    decoder = BodyDecoder(encoding, MIB)
    with pytest.raises(TooLarge):
        list(decoder.steps(pack(bytes(50 * MIB))))
    assert decoder.size <= MIB + MAX_STEP_BYTES


@pytest.mark.parametrize(
    "value",
    ["br", "zstd", "compress", "dcb", "gzip, br", "br, zstd", "gzip, gzip", "gzip,deflate", "identity, gzip", "x", "é"],
)
def test_what_is_not_taken_is_named(value: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        named(value)

    assert caught.value.headers["Accept-Encoding"] == "gzip, deflate"
    assert "gzip or deflate" in caught.value.words
    assert f"'{value}'" in caught.value.words
    assert ("more than one" in caught.value.words) == ("," in value)


def test_no_encoding_is_none() -> None:
    assert [named(value) for value in ("", " ", "identity", "IDENTITY ")] == [""] * 4
    assert encoding_of({}) == ""


async def test_what_is_large_is_decoded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def watched(body: bytes, encoding: str, limit: int) -> bytes:
        decoded = decode_now(body, encoding, limit)
        threads.append(threading.current_thread())
        return decoded

    monkeypatch.setattr(request_encoding, "decode_now", watched)
    small, large = gzip.compress(b"{}", mtime=0), gzip.compress(bytes(large_bodies.LARGE_BYTES + 1))
    await asyncio.gather(decode(small, "gzip", MIB), decode(large, "gzip", MIB), decode(bytes_of(MIB), "gzip", MIB))

    assert [thread is threading.current_thread() for thread in threads].count(True) == 1
    assert len(threads) == 3


def bytes_of(size: int) -> bytes:
    """gzip that is larger than what is decoded at once."""
    return gzip.compress(bytes(size), 0)


@pytest.mark.parametrize("size", [10, large_bodies.LARGE_BYTES, MIB])
async def test_the_cap_is_kept_beside_it_and_here(size: int) -> None:
    assert await decode(gzip.compress(bytes(size)), "gzip", size) == bytes(size)
    with pytest.raises(TooLarge):
        await decode(gzip.compress(bytes(size)), "gzip", size - 1)
