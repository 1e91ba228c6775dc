"""An encoded answer is decoded to what was encoded, in steps of bounded size, however it is cut."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies.decoding import MAX_STEP_BYTES, MAX_STEP_PIECES, Decoder

TEXTS = st.lists(
    st.one_of(st.binary(max_size=300), st.builds(bytes, st.integers(0, 5 * MAX_STEP_BYTES))), min_size=1, max_size=4
)


def bare(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


def decoded(encoding: str, pieces: list[bytes]) -> bytes:
    decoder, found = Decoder(encoding), []
    for piece in pieces:
        decoder.feed(piece)
        while decoder.has_more:
            step = decoder.step()
            assert len(step) <= MAX_STEP_BYTES
            found.append(step)
    assert decoder.is_whole
    return b"".join(found)


@given(TEXTS, st.integers(1, 10_000))
def test_gzip_of_any_number_of_members(texts: list[bytes], cut: int) -> None:
    sent = b"".join(map(gzip.compress, texts))

    assert decoded("gzip", [sent[at : at + cut] for at in range(0, len(sent), cut)]) == b"".join(texts)


@given(st.sampled_from([zlib.compress, bare]), TEXTS, st.integers(1, 10_000))
def test_deflate_with_and_without_its_wrapper(pack: object, texts: list[bytes], cut: int) -> None:
    sent = (zlib.compress if pack is zlib.compress else bare)(b"".join(texts))

    assert decoded("deflate", [sent[at : at + cut] for at in range(0, len(sent), cut)]) == b"".join(texts)


@pytest.mark.parametrize("size", [MAX_STEP_BYTES - 1, MAX_STEP_BYTES, MAX_STEP_BYTES + 1, 7 * MAX_STEP_BYTES])
def test_output_that_the_decompressor_holds_back_is_not_forgotten(size: int) -> None:
    """It may have taken all input, and still have output for another step."""
    assert decoded("gzip", [gzip.compress(bytes(size))]) == bytes(size)


def test_members_without_content_take_bounded_steps() -> None:
    decoder = Decoder("gzip")
    count = 10 * MAX_STEP_PIECES
    decoder.feed(gzip.compress(b"") * count)
    steps = 0
    while decoder.has_more:
        assert decoder.step() == b""
        steps += 1
    assert steps >= count / MAX_STEP_PIECES
    assert decoder.is_whole
