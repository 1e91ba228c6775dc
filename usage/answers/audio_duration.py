"""Finds the length of audio in a transcript or a file, for calls that are billed by a length that no answer states.

Subtitles end with the time of the last words, and a verbose transcript states a `duration`. For files of four formats,
the beginning is enough: WAV states its bytes per second, FLAC and MP4 the length itself, MP3 the number of frames or at
least the bit rate of the first frame (which is wrong for a varying bit rate). A caller could write a false length into
a file, but upstream measures the sound. So no file counts as shorter than it would be at the highest bit rate that its
format has in practice (`_MOST_BITS_PER_SECOND`).
"""

from __future__ import annotations

import math
import re
import struct

from usage.answers.reader import parse_body

HEAD_BYTES = 4096  # of a file, in which its length is looked for
# The formats of transcripts that may state a length (`response_format`). Plain text has only words, and a model that
# hears nothing may repeat those of the caller's prompt, which could look like a length.
TIMED_FORMATS = frozenset({"json", "verbose_json", "diarized_json", "srt", "vtt"})

# The end of a cue: `00:01:02,500 --> 00:01:05,000` in SRT, with a point in WebVTT, whose hours may be left out.
_CUE_END = re.compile(rb"--> *+(?:(\d{1,4}):)?([0-5]\d):([0-5]\d)[.,](\d{3})")
_MAX_CUE_BYTES = 64 * 1024  # behind the last cue's times follows its text only

# Kilobits a second of MPEG's Layer III by the index in a frame's header: MPEG-1, and MPEG-2 and 2.5 (ISO 11172-3,
# 13818-3).
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SAMPLES_PER_FRAME = {True: 1152, False: 576}
_LAYER_3 = 1
# WAV and FLAC: two channels of 32 and 24 bits at 192 kHz. MP4: a telephone's film. MP3: its highest bit rate.
_MOST_BITS_PER_SECOND = {"wav": 12_288_000, "flac": 9_216_000, "mp4": 20_000_000, "mp3": 320_000}
_PCM = {1, 3, 0xFFFE}  # the formats of WAV whose blocks have one sample each (also as "extensible")

MAX_PARSED_TRANSCRIPT_BYTES = 256 * 1024  # parsing a longer one would hold up the event loop
_LOOKED_AT_BYTES = 4096  # at both ends of a longer transcript
# No quote inside a JSON string is without a backslash before it, so this can only be a member's name.
_DURATION = re.compile(rb'(?<!\\)"duration"\s{0,9}:\s{0,9}"?(\d{1,9}(?:\.\d{1,20})?)')


def length_in_transcript(body: bytes) -> float | None:
    """Returns the length of transcribed audio in seconds, read from the transcript (JSON or subtitles).

    Returns None if the transcript states no length. Not for plain text (`TIMED_FORMATS`).
    """
    if body[:1] == b"{":
        # `duration` stands before the text, so the ends of a long transcript suffice.
        if len(body) > MAX_PARSED_TRANSCRIPT_BYTES:
            found = _DURATION.search(body[:_LOOKED_AT_BYTES]) or _DURATION.search(body[-_LOOKED_AT_BYTES:])
            return None if found is None else _plausible(float(found[1]))
        stated = parse_body(body, {"duration"}).get("duration")
        try:
            return _plausible(float(str(stated)))
        except ValueError:
            return None
    # The last cue ends where the audio ends. The words in it may look like the time of an earlier end.
    cues = [[int(part or 0) for part in cue] for cue in _CUE_END.findall(body[-_MAX_CUE_BYTES:])]
    ends = (hours * 3600 + minutes * 60 + seconds + thousandths / 1000 for hours, minutes, seconds, thousandths in cues)
    return _plausible(max(ends, default=0))


def length_of_file(head: bytes, size: int) -> float | None:
    """Estimates the length of an audio file in seconds, from its first `HEAD_BYTES` bytes and its size in bytes.

    Returns None if the first bytes (`head`) do not show the length. A file can state a length that is too short, so the
    result is at least the size divided by the highest usual bit rate of the format.
    """
    try:
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            stated, kind = _length_of_wav(head, size), "wav"
        elif head[:4] == b"fLaC":
            stated, kind = _length_of_flac(head), "flac"
        elif head[4:8] == b"ftyp":
            stated, kind = _length_of_mp4(head), "mp4"
        else:
            stated, kind = _length_of_mp3(head, size), "mp3"
    except (struct.error, ZeroDivisionError, LookupError):
        return None
    length = _plausible(stated)
    return None if length is None else max(length, size * 8 / _MOST_BITS_PER_SECOND[kind])


def _plausible(seconds: float) -> float | None:
    """Returns `seconds` if a recording can be that long (finite, more than 0); otherwise None."""
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _length_of_wav(head: bytes, size: int) -> float:
    at = head.index(b"fmt ") if b"fmt " in head else len(head)
    form, _, samples_per_second, bytes_per_second, block = struct.unpack_from("<HHIIH", head, at + 8)
    # A block of compressed sound has many samples, so the bytes a second are not those of a block times the samples.
    # Of other sound they are, and who plays it goes by these numbers.
    return float(size / (samples_per_second * block if form in _PCM else bytes_per_second))


def _length_of_flac(head: bytes) -> float:
    """Returns the length in seconds of the sound in a FLAC file, read from the file's first bytes.

    Raises:
        struct.error, ZeroDivisionError: the bytes do not state the length.
    """
    # The block STREAMINFO: 20 bits of sample rate, 8 bits of other facts, 36 bits for the number of samples.
    (packed,) = struct.unpack_from(">Q", head, 18)
    return float((packed & 0xF_FFFF_FFFF) / (packed >> 44))


def _length_of_mp4(head: bytes) -> float:
    """Returns the length in seconds of the sound in an MP4 file; NaN if `head`, the file's start, does not state it.

    Raises:
        struct.error, ZeroDivisionError, IndexError: the statement is cut off, or has no time scale.
    """
    # The movie header `mvhd` has a time scale and a duration. It may stand at the end of the file instead.
    at = head.find(b"mvhd") + 4
    if at < 4:
        return math.nan
    is_short = head[at] == 0
    scale, duration = struct.unpack_from(">II", head, at + 12) if is_short else struct.unpack_from(">IQ", head, at + 20)
    is_unknown = duration == (2**32 if is_short else 2**64) - 1  # ISO 14496-12, "movie header box"
    return math.nan if is_unknown else float(duration / scale)


def _length_of_mp3(head: bytes, size: int) -> float:
    start = 0
    if head[:3] == b"ID3":  # its size has 7 bits in each byte
        tag = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        start = 10 + tag
    sync, version_and_layer, rates = head[start : start + 3].ljust(3, b"\0")
    version, layer = version_and_layer >> 3 & 3, version_and_layer >> 1 & 3
    if sync != 0xFF or version_and_layer < 0xE0 or layer != _LAYER_3 or version not in _SAMPLE_RATES:
        return math.nan
    is_first = version == 3
    sample_rate = _SAMPLE_RATES[version][rates >> 2 & 3]
    marks = [at for mark in (b"Xing", b"Info") if (at := head.find(mark, start, start + 64)) >= 0]
    if marks:
        flags, frames = struct.unpack_from(">II", head, marks[0] + 4)
        if flags & 1:
            return float(frames * _SAMPLES_PER_FRAME[is_first] / sample_rate)
    return (size - start) * 8 / (_BIT_RATES[is_first][rates >> 4] * 1000)
