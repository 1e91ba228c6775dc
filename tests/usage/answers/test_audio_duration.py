"""The length of a sound, from a transcript or from the beginning of a file."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.answers import audio_duration
from usage.answers.audio_duration import HEAD_BYTES, length_in_transcript, length_of_file

SRT = b"1\n00:00:00,000 --> 00:00:01,500\nHello\n\n2\n00:00:01,500 --> 00:01:02,250\nBye\n"
VTT = b"WEBVTT\n\n00:00.000 --> 00:01.500\nHello\n\n00:01.500 --> 01:02.250\nBye\n"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (SRT, 62.25),
        (VTT, 62.25),
        (SRT.replace(b"00:01:02", b"10:01:02"), 36_062.25),
        (SRT + b"The time is --> 00:00:00,500\n", 62.25),
        (b'{"task": "translate", "duration": 8.47, "text": "x"}', 8.47),
        (b'{"duration": "8.47"}', 8.47),
        (b'{"text": "no duration"}', None),
        (b'{"duration": NaN}', None),
        (b'{"duration": -1}', None),
        (b"Hello --> there.", None),
        (b"", None),
    ],
)
def test_a_transcript_may_say_it(body: bytes, seconds: float | None) -> None:
    assert length_in_transcript(body) == seconds


LONG_TEXT = b'"text": "' + b'say \\"duration\\": 1 ' * 100_000 + b'"'


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"task": "transcribe", "language": "english", "duration": 8000.25, ' + LONG_TEXT + b"}", 8000.25),
        (b'{"duration":"7",' + LONG_TEXT + b"}", 7),
        (b"{" + LONG_TEXT + b', "duration": 9}', 9),
        (b"{" + LONG_TEXT + b"}", None),
        (b'{"duration": 0, ' + LONG_TEXT + b"}", None),
        (b'{"duration": null, ' + LONG_TEXT + b"}", None),
    ],
)
def test_of_a_long_transcript_the_ends_are_read(
    body: bytes, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing all of it would hold up the event loop."""
    monkeypatch.setattr(audio_duration, "parse_body", None)
    assert length_in_transcript(body) == seconds


def wav(seconds: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(16_000 * 4 * seconds))
    return file.getvalue()


def compressed_wav(seconds: int) -> bytes:
    """IMA ADPCM: a block of 256 bytes has 505 samples."""
    head = b"RIFF0000WAVEfmt " + struct.pack("<IHHIIHHHH", 20, 0x11, 1, 8000, 4055, 256, 4, 2, 505) + b"data0000"
    return head + bytes(4055 * seconds)


def flac(seconds: int) -> bytes:
    packed = 44_100 << 44 | 1 << 41 | 15 << 36 | 44_100 * seconds
    return b"fLaC\x80\0\0\x22" + bytes(10) + struct.pack(">Q", packed) + bytes(16)


def mp4(seconds: int, version: int = 0) -> bytes:
    times = struct.pack(">IIII", 0, 0, 1000, 1000 * seconds) if version == 0 else struct.pack(
        ">QQIQ", 0, 0, 1000, 1000 * seconds
    )  # fmt: skip
    header = b"mvhd" + bytes([version, 0, 0, 0]) + times
    return b"\0\0\0\x20ftypM4A " + bytes(20) + b"\0\0\0\x74moov\0\0\0\x6c" + header + bytes(80)


def mp3(seconds: int, header: bytes = b"\xff\xfb\x90\0", bit_rate: int = 128_000) -> bytes:
    return header + bytes(bit_rate // 8 * seconds - len(header))


def with_frames(seconds: float) -> bytes:
    """A varying bit rate: the number of frames says how long it is."""
    frames = round(seconds * 44_100 / 1152)
    return b"\xff\xfb\x90\0" + bytes(32) + b"Xing" + struct.pack(">II", 1, frames) + bytes(50_000)


@pytest.mark.parametrize(
    ("file", "seconds"),
    [
        (wav(3), 3),
        (compressed_wav(60), 60),
        (flac(70), 70),
        (mp4(70), 70),
        (mp4(70, version=1), 70),
        (mp3(10), 10),
        (mp3(10, b"\xff\xf3\x40\0", 32_000), 10),  # MPEG-2
        (mp3(10, b"\xff\xe3\x10\0", 8_000), 10),  # MPEG-2.5
        (b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + mp3(10), 10),
        (with_frames(3600), 3600),
    ],
)
def test_a_file_says_it_at_its_beginning(file: bytes, seconds: float) -> None:
    found = length_of_file(file[:HEAD_BYTES], len(file))
    assert found == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (wav(30)[:28] + struct.pack("<I", 2**31) + wav(30)[32:], "wav"),  # says two gigabytes a second
        (compressed_wav(30)[:28] + struct.pack("<I", 2**31) + compressed_wav(30)[32:], "wav"),
        (flac(1) + bytes(10**6), "flac"),
        (mp4(1) + bytes(10**7), "mp4"),
        (with_frames(0.03) + bytes(10**6), "mp3"),
    ],
)
def test_a_false_length_is_no_shorter_than_the_file_can_be(file: bytes, kind: str) -> None:
    found = length_of_file(file[:HEAD_BYTES], len(file))
    assert found is not None
    assert found >= len(file) * 8 / audio_duration._MOST_BITS_PER_SECOND[kind]


def test_a_false_rate_of_a_wav_file_is_seen_by_its_blocks() -> None:
    file = wav(30)
    forged = file[:28] + struct.pack("<I", 2**31) + file[32:]
    assert length_of_file(forged[:HEAD_BYTES], len(forged)) == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"sound",
        b"OggS" + bytes(500),
        b"\x1a\x45\xdf\xa3" + bytes(500),
        b"RIFF" + bytes(4) + b"WAVE",
        b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(60),
        b"fLaC",
        b"fLaC" + bytes(60),
        b"\0\0\0\x20ftypM4A " + bytes(60),
        b"ID3\x03\0\0\x7f\x7f\x7f\x7f" + bytes(60),
        b"\xff\xfb\xf0\0",
        b"\xff\xfb\x9c\0",
        b"\xff\xff\xff",
    ],
)
def test_others_do_not(file: bytes) -> None:
    assert length_of_file(file[:HEAD_BYTES], len(file)) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF0000WAVEfmt ", b"fLaC", b"0000ftyp", b"ID3", b"\xff\xfb"]))
def test_odd_bytes_are_no_fault(rest: bytes, start: bytes) -> None:
    found = length_of_file(start + rest, 10_000)
    assert found is None or found > 0
    length_in_transcript(start + rest)
    length_in_transcript(b"{" + rest)
