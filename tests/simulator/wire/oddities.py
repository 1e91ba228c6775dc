"""Owns an upstream that answers chats as other servers with OpenAI's API do: their labels, spacing, errors and endings.

A call's model names the answer, `<server>/<answer>` of `SCRIPTS`. What was seen where:

* llama.cpp's server (`tools/server/server-task.cpp`, `to_json_oaicompat_chat_stream`): `choices` first, `timings` in
  the last chunk, which is the chunk of usage if that was asked for. An error in a stream was a line of the field
  `error` (`server.cpp`, `server_sent_event(sink, "error", …)`) and `[DONE]` came behind it; later it is an object in
  `data`. Its errors have a number as `code`. The fork ik_llama.cpp sent no `[DONE]` (its issue 467).
* vLLM (`vllm/entrypoints/openai/serving_chat.py`, `serving_engine.py`): absent members instead of null ones, errors
  with a number as `code`, `[DONE]` behind an error in a stream (`create_streaming_error_response`). A refusal was the
  error's members without `error` around them. vllm-ascend labels its streams application/json (its issue 5033).
* Ollama (`middleware/openai.go`, `ChatWriter`): `[DONE]` only when the model is done. Its own error in the middle of a
  stream is not passed on, so the stream ends without a word. Errors by `NewError`, `code` null.
* Azure OpenAI: a first chunk without choices that has `prompt_filter_results`, a last one of the filter that has no
  `delta` (reference "Content filtering", streaming); errors without `type`, and a `code` that is a status in quotes.
* LiteLLM (`litellm/proxy/proxy_server.py`, `async_data_generator`): an error in a stream has the text "None" for what
  it does not know and a status in quotes as `code`, and no `[DONE]` follows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = "[DONE]"
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
TIMINGS = {"prompt_n": 11, "prompt_ms": 21.5, "predicted_n": 3, "predicted_ms": 60.25}
SAFE = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
WORDS = ("Hé", "llo ", "there")
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Script:
    """One odd answer of an upstream, in a stream of events or as JSON.

    `events` is a function that returns the events of the stream as texts; its argument says whether the call has asked
    for usage. `label` is the stream's content type. `body` is the JSON of an answer that is no stream.
    """

    events: Callable[[bool], list[str]] = lambda _: []
    label: str = EVENTS
    status: int = 200
    body: Any = None  # of an answer that is no stream


def data(value: Any, *, compact: bool = True, end: str = "\n", field: str = "data", space: str = " ") -> str:
    """Writes one server-sent event as text; `value` is its data: an object, which becomes JSON, or a text."""
    separators = (",", ":") if compact else None
    text = value if isinstance(value, str) else json.dumps(value, separators=separators, ensure_ascii=False)
    return f"{field}:{space}{text}{end}{end}"


def choice(text: str | None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"index": 0, "delta": delta, "finish_reason": "stop" if text is None else None, **more}


def chunk(*choices: dict[str, Any], name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1, "model": name, "choices": list(choices)
    } | more  # fmt: skip


def usual(name: str, *, with_usage: bool, nulls: bool = False, **of_last: Any) -> list[dict[str, Any]]:
    """Makes the chunks of a usual streamed chat: three words, the end and, `with_usage`, the usage.

    `of_last` are members that are added to the last chunk, whichever that is.
    """
    more = {"usage": None} if nulls and with_usage else {}
    chunks = [chunk(choice(word), name=name, **more) for word in WORDS] + [chunk(choice(None), name=name, **more)]
    if with_usage:
        chunks.append(chunk(name=name, usage=USAGE))
    chunks[-1].update(of_last)
    return chunks


def llama(*, with_usage: bool) -> list[dict[str, Any]]:
    chunks = usual("qwen3", with_usage=with_usage, timings=TIMINGS)
    return [{"choices": one.pop("choices"), "system_fingerprint": "b7000", **one} for one in chunks]


def azure(*, with_usage: bool) -> list[dict[str, Any]]:
    more = {"usage": None} if with_usage else {}
    filtered = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", **filtered, **more}
    of_filter = {"index": 0, "finish_reason": None, "content_filter_results": SAFE, "content_filter_offsets": {}}
    last = {"id": "", "object": "", "created": 0, "model": "", "choices": [of_filter], **more}
    return [first, *usual("gpt-4o", with_usage=with_usage, nulls=True), last]


def stream(make: Callable[..., list[dict[str, Any]]], *more: str, **spelling: Any) -> Callable[[bool], list[str]]:
    """Makes a function that returns the events of a stream: the chunks that `make` returns, then the texts `more`.

    The function's argument says whether the call has asked for usage.
    """
    return lambda asked: [*(data(one, **spelling) for one in make(with_usage=asked)), *more]


def whole(name: str, *, compact: bool = True, **members: Any) -> Callable[[bool], list[str]]:
    """Makes a function that returns the events of a usual stream up to its end, with `members` added to each chunk."""
    return lambda asked: [
        *(data({**one, **members}, compact=compact) for one in usual(name, with_usage=asked)),
        data(DONE),
    ]


def begun(name: str, *more: str) -> Callable[[bool], list[str]]:
    """Makes a function that returns the events of a stream that breaks off after two words, then the texts `more`."""
    return lambda asked: [*(data(one) for one in usual(name, with_usage=asked)[:2]), *more]


LLAMA_ERROR = {"code": 500, "message": "Compute error.", "type": "server_error"}
VLLM_ERROR = {"object": "error", "message": "boom in the engine", "type": "BadRequestError", "param": None, "code": 400}
LITELLM_ERROR = {"message": "litellm.APIError: lost", "type": "None", "param": "None", "code": "500"}
TOO_LONG = {"code": 400, "message": "the request exceeds the available context size", "n_prompt_tokens": 9, "n_ctx": 8}
FILTERED = {"message": "The response was filtered", "type": None, "param": "prompt", "code": "content_filter"}
MISSING = {"message": 'model "x" not found', "type": "not_found_error", "param": None, "code": None}

SCRIPTS: dict[str, Script] = {
    "llama.cpp/answer": Script(stream(llama, data(DONE))),
    "llama.cpp/error-line": Script(begun("qwen3", data(LLAMA_ERROR, field="error"), data(DONE))),
    "llama.cpp/error-data": Script(begun("qwen3", data({"error": LLAMA_ERROR}))),
    "llama.cpp/refusal": Script(status=400, body={"error": {**TOO_LONG, "type": "exceed_context_size_error"}}),
    "ik_llama.cpp/no-done": Script(stream(llama)),
    "vllm/answer": Script(whole("qwen3"), label="text/event-stream; charset=utf-8"),
    "vllm/error": Script(begun("qwen3", data({"error": VLLM_ERROR}, compact=False), data(DONE))),
    "vllm/refusal": Script(status=400, body=VLLM_ERROR),
    "vllm-ascend/label": Script(whole("qwen3"), label="application/json"),
    "ollama/answer": Script(whole("llama3", system_fingerprint="fp_ollama")),
    "ollama/cut": Script(begun("llama3")),
    "ollama/refusal": Script(status=404, body={"error": MISSING}),
    "azure/answer": Script(stream(azure, data(DONE))),
    "azure/filtered": Script(status=400, body={"error": {**FILTERED, "status": 400, "innererror": {"code": "x"}}}),
    "azure/busy": Script(status=429, body={"error": {"code": "429", "message": "Requests have exceeded the limit."}}),
    "litellm/answer": Script(lambda asked: [": ping\n\n", *whole("gpt-4o", compact=False)(asked)]),
    "litellm/error": Script(begun("gpt-4o", data({"error": LITELLM_ERROR}, compact=False))),
    # Labels and spellings that proxies and small servers add.
    "proxy/text-plain": Script(stream(llama, data(DONE)), label="text/plain; charset=utf-8"),
    "proxy/octet-stream": Script(stream(llama, data(DONE)), label="application/octet-stream"),
    "proxy/no-label": Script(stream(llama, data(DONE)), label=""),
    "proxy/crlf-without-space": Script(stream(llama, data(DONE, end="\r\n", space=""), end="\r\n", space="")),
    "proxy/text-error": Script(begun("qwen3", data({"error": "the backend is gone"}))),
    "proxy/named-error": Script(begun("qwen3", "event: error\ndata: the backend is gone\n\n")),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        script = SCRIPTS[asked["model"]]
        self.send_response(script.status)
        if script.body is not None:
            body = json.dumps(script.body).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if script.label:
            self.send_header("content-type", script.label)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in script.events(bool((asked.get("stream_options") or {}).get("include_usage"))):
            piece = event.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_words: object) -> None:
        """Logs nothing."""


@contextmanager
def odd_upstream() -> Iterator[str]:
    """Runs an upstream with odd answers until the block ends, and yields its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
