"""A transcript in every response format: what was said is `Transcript`, how it is written is one function each."""

from dataclasses import dataclass
from functools import cached_property

from tests.simulator.content.answers import Json
from tests.simulator.content.tokens import count_tokens

_BYTES_PER_SECOND = 16_000
_AUDIO_TOKENS_PER_SECOND = 10


@dataclass(frozen=True)
class Transcript:
    """The simulated transcript of an audio file: sentences with their times.

    It depends on the file's size and language only, so that it is the same each time.
    """

    sentences: tuple[str, ...]
    audio_bytes: int
    language: str

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    @cached_property
    def seconds(self) -> int:
        return max(1, round(self.audio_bytes / _BYTES_PER_SECOND))

    @property
    def spans(self) -> list[tuple[float, float, str]]:
        """The sentences of the transcript, each as its start and its end in seconds, and its text."""
        length = self.seconds / len(self.sentences)
        return [(round(at * length, 2), round((at + 1) * length, 2), one) for at, one in enumerate(self.sentences)]

    def duration_usage(self) -> Json:
        return {"type": "duration", "seconds": self.seconds}

    def token_usage(self) -> Json:
        audio, output = self.seconds * _AUDIO_TOKENS_PER_SECOND, count_tokens(self.text)
        return {
            "type": "tokens",
            "input_tokens": audio,
            "input_token_details": {"text_tokens": 0, "audio_tokens": audio},
            "output_tokens": output,
            "total_tokens": audio + output,
        }


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


def srt(transcript: Transcript) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(transcript.spans, 1)
    )


def vtt(transcript: Transcript) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n\n" for start, end, text in transcript.spans
    )


def segments(transcript: Transcript) -> list[Json]:
    return [
        {
            "id": number,
            "seek": 0,
            "start": start,
            "end": end,
            "text": f" {text}",
            "tokens": [50364, 2425, 11, 50564],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 1.1,
            "no_speech_prob": 0.01,
        }
        for number, (start, end, text) in enumerate(transcript.spans)
    ]


def words(transcript: Transcript) -> list[Json]:
    every = transcript.text.split()
    step = transcript.seconds / len(every)
    return [
        {"word": word.strip(".,"), "start": round(at * step, 2), "end": round((at + 1) * step, 2)}
        for at, word in enumerate(every)
    ]


def verbose(transcript: Transcript, task: str, granularities: list[str]) -> Json:
    """Converts a transcript to the response format `verbose_json`.

    It has `segments` unless only words were asked for, and `words` only if they were (API reference).
    """
    body: Json = {
        "task": task,
        "language": transcript.language,
        "duration": float(transcript.seconds),
        "text": transcript.text,
    }
    if "word" in granularities:
        body["words"] = words(transcript)
    if "segment" in granularities or not granularities:
        body["segments"] = segments(transcript)
    return body


def speaker_segments(transcript: Transcript) -> list[Json]:
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03}",
            "speaker": "AB"[number % 2],
            "start": start,
            "end": end,
            "text": text,
        }
        for number, (start, end, text) in enumerate(transcript.spans)
    ]


def diarized(transcript: Transcript) -> Json:
    return {
        "task": "transcribe",
        "duration": float(transcript.seconds),
        "text": transcript.text,
        "segments": speaker_segments(transcript),
        "usage": transcript.token_usage(),
    }
