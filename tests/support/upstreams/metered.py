"""An upstream server with a meter: it counts the dollars of the work for each call, however the call has ended.

It knows nothing of the gateway. A call states its payer (`PAYER`), its own name (`CALL`) and what should happen
(`SCRIPT`), in headers or, since the simple API passes no headers, in its `metadata`. Upstream counts the tokens that it
reads and makes, even those that nobody ever gets, and multiplies them by the published prices. It makes
`TOKENS_PER_SECOND`, and reasons with `REASONING_PER_SECOND`. The scripts:

* `whole`: a whole answer, as long as the call allows; `priority`: the same in the tier of this name;
* `hang`: no answer, but upstream goes on working until it is left;
* `cut`: the connection is closed after a moment of work;
* `cut-body`: the whole answer is made, and half of it is sent; `bad`: its JSON breaks off;
* `part`: a stream: a part of the answer, then upstream waits until it is left; `broken`: … then it breaks off; what
  hosted tools do, they do then, and no event says so. A response in the background goes on to its end;
* `reason`: a stream without any text: upstream reasons until it is left;
* `fail-NNN`: an error with this status, which is not billed.

Over 300 lines, since all work for a call is counted in one place.
"""

from __future__ import annotations

import json
import math
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAYER, CALL, SCRIPT = "x-payer", "x-call", "x-script"
TOKENS_PER_SECOND = 1000
REASONING_PER_SECOND = 150
LAST_TEXT = "9;"  # the last text of the script `part`
A_MOMENT = 0.03  # seconds
SOUND_SECONDS = 3
PICTURE_TOKENS, PICTURE_WORDS = 4160, 50  # of a square picture of high quality, and its prompt
FILE_SEARCHES, WEB_SEARCHES = 8, 9
HISTORY_TOKENS = 100_000  # of an earlier response

# Dollars for a million tokens of input and output. Source: developers.openai.com/api/docs/pricing, read 2026-11-28.
PRICES = {
    ("gpt-4o-mini", "default"): ("0.15", "0.60"),
    ("gpt-4o-mini", "priority"): ("0.25", "1.00"),
    ("gpt-5", "default"): ("1.25", "10.00"),
    ("gpt-image-1", "default"): ("5.00", "40.00"),
}
WHISPER_MINUTE = Decimal("0.006")
FILE_SEARCH = Decimal("0.0025")
WEB_SEARCH, BLOCK_TOKENS = Decimal("0.01"), 8000  # input tokens for each search of gpt-4o-mini
CONTAINER = Decimal("0.03") / 4  # 5 minutes with 1 GB


def count_tokens(text: str) -> int:
    """Counts the tokens of a text that is words, base64 or digits, as the tokenizer o200k_base would.

    A token has 4 bytes of words, 1.45 of base64, or 1 of digits.
    """
    if "," in text:
        return len(text)
    return math.ceil(len(text) / (4 if " " in text else 1.45))


def price(model: str, tokens_in: int, tokens_out: int, tier: str = "default") -> Decimal:
    into, out = map(Decimal, PRICES[model, tier])
    return (into * tokens_in + out * tokens_out) / 1_000_000


def use_tools(kinds: set[str]) -> tuple[Decimal, dict[str, Any]]:
    """Returns the cost of hosted tools of the given types in dollars, and the facts that a response states about them.

    The tokens of the response itself are not in the dollars.
    """
    dollars, output, stated = Decimal(0), list[dict[str, Any]](), dict[str, Any]()
    if "file_search" in kinds:
        dollars += FILE_SEARCHES * FILE_SEARCH
        found = {"type": "file_search_call", "status": "completed", "queries": ["q"], "results": None}
        output += [{**found, "id": f"fs_{number}"} for number in range(FILE_SEARCHES)]
    if "web_search" in kinds:
        dollars += WEB_SEARCHES * (WEB_SEARCH + price("gpt-4o-mini", BLOCK_TOKENS, 0))
        stated["web_search"] = {"num_requests": WEB_SEARCHES}
    if "code_interpreter" in kinds:
        dollars += CONTAINER
        output.append({"type": "code_interpreter_call", "status": "completed", "id": "ci_1", "container_id": "cntr_1"})
    if "image_generation" in kinds:
        dollars += price("gpt-image-1", PICTURE_WORDS, PICTURE_TOKENS)
        made = {"input_tokens": PICTURE_WORDS, "output_tokens": PICTURE_TOKENS}
        details = {"input_tokens_details": {"text_tokens": PICTURE_WORDS, "image_tokens": 0}}
        stated["image_gen"] = {**made, "total_tokens": sum(made.values()), **details}
    return dollars, {"output": output, "tool_usage": stated}


class MeteredUpstream(ThreadingHTTPServer):
    """A server in upstream's place with a meter of its own: it counts what each call costs, to compare with the ledger.

    `spent` has the dollars by payer, `got` the names of the calls that it has received.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spent: dict[str, Decimal] = defaultdict(Decimal)
        self.got: set[str] = set()
        self.working = 0
        self.lock = threading.Lock()
        self.responses: dict[str, _Background] = {}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def bill(self, payer: str, dollars: Decimal) -> None:
        with self.lock:
            self.spent[payer] += dollars


class _Background:
    """A background response. Upstream works on it, whether or not anybody asks for it, until it ends."""

    def __init__(self, response: dict[str, Any], usage: dict[str, int], used: dict[str, Any]) -> None:
        self.response, self.usage, self.began = response, usage, time.monotonic()
        self.used = used  # the items of hosted tools in its output, and its `tool_usage`
        self.is_cancelled = False

    def shown(self) -> dict[str, Any]:
        made = (time.monotonic() - self.began) * TOKENS_PER_SECOND
        if self.is_cancelled:
            return {**self.response, "status": "cancelled"}
        if made < self.usage["output_tokens"]:
            return {**self.response, "status": "in_progress"}
        return {**self.response, **self.used, "status": "completed", "usage": self.usage}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MeteredUpstream

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.working += 1
        try:
            with suppress(ConnectionError):
                self._work()
        finally:
            with self.server.lock:
                self.server.working -= 1

    def do_GET(self) -> None:
        found = self.server.responses.get(self.path.rpartition("/")[2])
        self._send({"error": {"message": "no such response"}} if found is None else found.shown(), found is None)

    def do_DELETE(self) -> None:
        found = self.server.responses.pop(self.path.rpartition("/")[2], None)
        self._send({"id": "", "object": "response", "deleted": True}, found is None)

    def _work(self) -> None:
        raw = self._read_body()
        if self.path.endswith("/cancel"):
            self._cancel()
            return
        self.began = time.monotonic()
        given = self.headers if PAYER in self.headers else json.loads(raw)["metadata"]
        self.payer, self.call, script = given[PAYER], given[CALL], given[SCRIPT]
        self.server.got.add(self.call)
        if script.startswith("fail-"):
            self._send({"error": {"message": "no", "type": "server_error"}}, int(script[5:]))
        elif self.path.endswith(("/transcriptions", "/translations")):
            self.server.bill(self.payer, WHISPER_MINUTE * SOUND_SECONDS / 60)
            self._send_text("1\n00:00:00,000 --> 00:00:03,000\nhello\n")
        elif self.path.endswith("/responses"):
            self._respond(json.loads(raw), script)
        else:
            self._chat(json.loads(raw), script)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionAbortedError  # upstream has not got all of it, and does nothing
            return body
        body = b""
        while size := int(self.rfile.readline() or b"-1", 16):
            if size < 0:
                raise ConnectionAbortedError
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _chat(self, body: dict[str, Any], script: str) -> None:
        into = sum(count_tokens(message["content"]) for message in body["messages"])
        limit = body.get("max_completion_tokens") or body["max_tokens"]
        model, tier = body["model"], "priority" if script == "priority" else "default"
        usage = {"prompt_tokens": into, "completion_tokens": limit, "total_tokens": into + limit}
        frame = {"id": "chatcmpl-1", "model": model, "service_tier": tier, "created": 1}
        if body.get("stream"):
            self._stream(frame, usage, limit, into, script, model)
            return
        made = self._make(limit, script)
        self.server.bill(self.payer, price(model, into, made, tier))
        message = {"role": "assistant", "content": "0," * (limit // 2)}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        self._answer({**frame, "object": "chat.completion", "choices": [choice], "usage": usage}, script)

    def _make(self, limit: int, script: str) -> int:
        """Sleeps as long as a model needs for an answer of `limit` tokens; returns how many tokens it has made."""
        if script == "hang":
            self._wait_until_left()
        else:
            time.sleep(A_MOMENT if script == "cut" else limit / TOKENS_PER_SECOND)
        return min(limit, math.floor((time.monotonic() - self.began) * TOKENS_PER_SECOND))

    def _stream(
        self, frame: dict[str, Any], usage: dict[str, int], limit: int, into: int, script: str, model: str
    ) -> None:
        made = 0
        try:
            self._send_head("text/event-stream")
            if script == "reason":
                self._wait_until_left()
                made = min(limit, math.floor((time.monotonic() - self.began) * REASONING_PER_SECOND))
                return
            texts = ["0,"] * (limit // 4) + [LAST_TEXT] if script != "whole" else ["0,"] * (limit // 2)
            for text in texts:
                made += len(text)
                choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
                self._send_event({**frame, "object": "chat.completion.chunk", "choices": [choice]})
            if script == "part":
                self._wait_until_left()
            elif script == "broken":
                self._cut()
            else:
                self._send_event({**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage})
                self._send_event(None)
        finally:
            self.close_connection = True
            self.server.bill(self.payer, price(model, into, made))

    def _respond(self, body: dict[str, Any], script: str) -> None:
        model, limit = body["model"], body["max_output_tokens"]
        into = count_tokens(body["input"]) + (HISTORY_TOKENS if body.get("previous_response_id") else 0)
        kinds = {tool["type"] for tool in body.get("tools", ())}
        usage = {"input_tokens": into, "output_tokens": limit, "total_tokens": into + limit}
        response: dict[str, Any] = {
            "id": f"resp_{self.call}", "object": "response", "model": model, "service_tier": "default",
            "tools": body.get("tools", []), "output": [], "usage": None, "status": "queued",
            "background": bool(body.get("background")),
        }  # fmt: skip
        tools, used = use_tools(kinds)
        if body.get("background"):
            self.server.responses[response["id"]] = _Background(response, usage, used)
            # It goes on whoever cancels or deletes it later: `_cancel` gives back what is not made then.
            self.server.bill(self.payer, price(model, into, limit) + tools)
            if body.get("stream"):
                self._stream_response(response)
                self._wait_until_left()
            else:
                self._send(response)
            return
        if body.get("stream"):
            made = 0
            try:
                made = self._stream_response(response)
                self._cut() if script == "broken" else self._wait_until_left()
            finally:
                self.server.bill(self.payer, price(model, into, made) + tools)
            return
        self.server.bill(self.payer, price(model, into, self._make(limit, script)) + tools)
        self._answer({**response, **used, "status": "completed", "usage": usage}, script)

    def _stream_response(self, response: dict[str, Any]) -> int:
        """Sends the first events of a streamed response, and returns how many output tokens are in them."""
        self._send_head("text/event-stream")
        started = {**response, "status": "in_progress"}
        self._send_event({"type": "response.created", "sequence_number": 0, "response": started})
        texts = ["0,"] * 5 + [LAST_TEXT]
        for number, text in enumerate(texts):
            place = {"sequence_number": number + 1, "item_id": "msg_1", "output_index": 0, "content_index": 0}
            self._send_event({"type": "response.output_text.delta", **place, "delta": text, "logprobs": []})
        return sum(map(len, texts))

    def _cancel(self) -> None:
        found = self.server.responses[self.path.split("/")[-2]]
        found.is_cancelled = True
        limit = found.usage["output_tokens"]
        left = max(0, limit - math.ceil((time.monotonic() - found.began) * TOKENS_PER_SECOND))
        self.server.bill(self.headers[PAYER], -price(found.response["model"], 0, left))
        self._send(found.shown())

    def _answer(self, answer: dict[str, Any], script: str) -> None:
        if script == "cut":
            self._cut()
        elif script == "cut-body":
            content = json.dumps(answer).encode()
            self._send_head("application/json", len(content))
            self.wfile.write(content[: len(content) // 2])
            self._cut()
        elif script == "bad":
            self._send_text(json.dumps({"choices": answer.get("choices")})[:-2], "application/json")
        elif script != "hang":
            self._send(answer)

    def _send(self, answer: object, status: int | bool = 200) -> None:
        status = {True: 404, False: 200}.get(status, status) if isinstance(status, bool) else status
        self._send_text(json.dumps(answer), "application/json", status)

    def _send_text(self, text: str, content_type: str = "text/plain", status: int = 200) -> None:
        self._send_head(content_type, len(text), status)
        self.wfile.write(text.encode())

    def _send_head(self, content_type: str, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        if length is None:
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def _send_event(self, event: dict[str, Any] | None) -> None:
        data = "[DONE]" if event is None else json.dumps(event)
        self.wfile.write(f"data: {data}\n\n".encode())

    def _wait_until_left(self) -> None:
        select.select([self.connection], [], [])
        self.close_connection = True

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because a failing test reports by itself what is wrong."""


@contextmanager
def run_metered_upstream() -> Iterator[MeteredUpstream]:
    with MeteredUpstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
