"""The requests that `test_transparency` sends: with JSON or without a body, on every route, ordinary and odd ones.

Forms are in `varied_forms`. An exchange is one request or a few that build on each other; its name says what is odd.

Over 300 lines, since it is one table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.simulator.endpoints import images

JSON = b"Content-Type: application/json"
ID = b"{id}"
USAGE = b'"stream_options":{"include_usage":true}'
AT_START = (b"{", b"{" + USAGE + b",")


@dataclass(frozen=True)
class Sent:
    """One request that is sent to the gateway in an exchange of several, and what upstream must receive of it.

    `target` is the path below `/v1`; `{id}` in it stands for the id in the answer to the exchange's first request.

    The body is sent with its length or, unless `chunk` is 0, in chunks of `chunk` bytes. `asks` is None if upstream
    must receive the body unchanged. Otherwise it is a pair of texts: upstream must receive the body with the first
    occurrence of the first text replaced by the second.
    """

    method: str
    target: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes | None = None
    chunk: int = 0
    asks: tuple[bytes, bytes] | None = None

    def on_the_wire(self, prefix: str, key: str, found_id: bytes) -> bytes:
        lines = [b"%b %b%b HTTP/1.1" % (self.method.encode(), prefix.encode(), self.target.replace(ID, found_id))]
        lines += [b"Host: the.host", b"Authorization: Bearer " + key.encode(), *self.headers]
        body = self.body or b""
        if self.chunk:
            lines.append(b"Transfer-Encoding: chunked")
            pieces = [body[at : at + self.chunk] for at in range(0, len(body), self.chunk)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif self.body is not None:
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*lines, b"", b""]) + body


Exchange = tuple[Sent, ...]


def get(target: str, *headers: bytes) -> Sent:
    return Sent("GET", target.encode(), headers)


def delete(target: str, *headers: bytes) -> Sent:
    return Sent("DELETE", target.encode(), headers)


def post(target: str, body: dict[str, Any] | str | bytes, *headers: bytes, **rest: Any) -> Sent:
    if isinstance(body, dict):
        body = json.dumps(body, ensure_ascii=False)
    return Sent("POST", target.encode(), (JSON, *headers), body.encode() if isinstance(body, str) else body, **rest)


HI = [{"role": "user", "content": "Grüß dich, 世界 🌍"}]
MESSAGES = '"messages":[{"role":"user","content":"hi ✓"}]'
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}]
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
PNG = f"data:image/png;base64,{images.PNG}"


def chat(**fields: Any) -> Sent:
    return post("/chat/completions", {"model": "gpt-4o-mini", "messages": HI, **fields})


def streamed(**fields: Any) -> Sent:
    return replace(chat(stream=True, **fields), asks=AT_START)


def raw_chat(body: str | bytes) -> Sent:
    return post("/chat/completions", body)


def raw_stream(body: str | bytes, asks: tuple[bytes, bytes] | None) -> Sent:
    return post("/chat/completions", body, asks=asks)


CHAT_FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "parameters": {"temperature": 0.2, "top_p": 1, "n": 2, "stop": ["a", "b"], "seed": 7, "user": "ü"},
    "developer message": {"messages": [{"role": "developer", "content": "Be short."}, *HI]},
    "tools": {"tools": TOOLS, "messages": [{"role": "user", "content": "What is the weather in Paris?"}]},
    "tool chosen": {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    "tool's answer": {
        "tools": TOOLS,
        "messages": [
            *HI,
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "x"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "{}"},
        ],
    },
    "json schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}},
    "json object": {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "json"}]},
    "image": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]}]
    },
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "cut short": {"max_completion_tokens": 3},
    "reasoning model": {"model": "gpt-5-mini", "reasoning_effort": "low", "verbosity": "high"},
    "service tier": {"service_tier": "flex", "metadata": {"a": "b"}, "store": True},
    "stream false": {"stream": False},
    "stream null": {"stream": None},
    "stream options without a stream": {"stream_options": {"include_usage": True}},
    "no messages": {"messages": []},
    "unknown model": {"model": "gpt-nope"},
    "not a chat model": {"model": "whisper-1"},
    "model null": {"model": None},
    "model not a string": {"model": {"name": ["x"]}},
    "unknown field": {"x_unknown": {"deep": [1, {"er": None}]}},
    "our own field names": {"security_key": "x", "openai_api_key": "sk-x", "timeout": 5, "project": "p"},
    "wrong type": {"temperature": "hot"},
    "empty name": {"": 1},
    "long name": {"n" * 70_000: 1},
    "huge answer": {"model": "fault:huge-300000"},
}
CHAT: dict[str, Exchange] = {name: (chat(**fields),) for name, fields in CHAT_FIELDS.items()}

# Each: the fields beside model and messages, and what upstream gets instead of what (None: nothing).
OPTIONS: dict[str, tuple[str, tuple[bytes, bytes] | None]] = {
    "absent": ('"stream":true', AT_START),
    "null": ('"stream":true,"stream_options":null', (b"null", b'{"include_usage":true}')),
    "null, given first": ('"stream_options" : null ,"stream":true', (b"null", b'{"include_usage":true}')),
    "empty": ('"stream":true,"stream_options":{}', (b"s\":{}", b's":{"include_usage":true}')),
    "empty, with space": ('"stream":true,"stream_options":{ \n }', (b"s\":{ \n }", b's":{"include_usage":true \n }')),
    "usage true": ('"stream":true,"stream_options":{"include_usage":true}', None),
    "usage true, given first": ('"stream_options":{"include_usage":true},"stream":true', None),
    "usage false": ('"stream":true,"stream_options":{"include_usage":false}', (b":false", b":true")),
    "usage false, spaced": ('"stream":true,"stream_options":{ "include_usage" : false }', (b": false", b": true")),
    "usage null": ('"stream":true,"stream_options":{"include_usage":null}', (b":null", b":true")),
    "usage a word": ('"stream":true,"stream_options":{"include_usage":"yes"}', None),
    "usage a number": ('"stream":true,"stream_options":{"include_usage":1}', None),
    "usage zero": ('"stream":true,"stream_options":{"include_usage":0}', None),
    "obfuscation off": (
        '"stream":true,"stream_options":{"include_obfuscation":false}',
        (b'{"include_obf', b'{"include_usage":true,"include_obf'),
    ),
    "obfuscation on": (
        '"stream":true,"stream_options":{"include_obfuscation":true}',
        (b'{"include_obf', b'{"include_usage":true,"include_obf'),
    ),
    "obfuscation off, usage true": (
        '"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}', None
    ),
    "obfuscation off, usage false": (
        '"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}',
        (b'usage":false', b'usage":true'),
    ),
    "unknown option": (
        '"stream":true,"stream_options":{"unknown":[{}]}', (b'{"unknown', b'{"include_usage":true,"unknown')
    ),
    "a word": ('"stream":true,"stream_options":"usage"', None),
    "a number": ('"stream":true,"stream_options":1', None),
    "a list": ('"stream":true,"stream_options":[]', None),
    "twice, last one asks": (
        '"stream_options":{"include_usage":false},"stream":true,"stream_options":{"include_usage":true}', None
    ),
    "twice, last one does not": (
        '"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":false}',
        (b":false", b":true"),
    ),
    "usage twice": (
        '"stream":true,"stream_options":{"include_usage":true,"include_usage":false}', (b":false", b":true")
    ),
    "name escaped": ('"stream":true,"stream_\\u006fptions":{"include_us\\u0061ge":false}', (b":false", b":true")),
    "stream twice, last true": ('"stream":false,"stream":true', AT_START),
    "stream twice, last false": ('"stream":true,"stream":false', None),
    "stream a word": ('"stream":"true"', None),
    "stream one": ('"stream":1', None),
}  # fmt: skip
STREAM_OPTIONS: dict[str, Exchange] = {}
for _name, (_fields, _asks) in OPTIONS.items():
    STREAM_OPTIONS[f"{_name}"] = (raw_stream(f'{{"model":"gpt-4o-mini",{_fields},{MESSAGES}}}', _asks),)

STREAMS: dict[str, Exchange] = {
    "plain": (streamed(),),
    "two choices": (streamed(n=2),),
    "tools": (streamed(tools=TOOLS, tool_choice="required"),),
    "logprobs": (streamed(logprobs=True, top_logprobs=1),),
    "usage in the text": (streamed(messages=[{"role": "user", "content": 'say ,"usage":null} and "usage": {"a":1}'}]),),
    "[DONE] in the text": (streamed(messages=[{"role": "user", "content": "data: [DONE]\n\n"}]),),
    "cut short": (streamed(max_tokens=2),),
    "many events": (streamed(model="fault:events-300"),),
    "split in threes": (streamed(model="fault:events-20+split-3"),),
    "split in single bytes": (streamed(model="fault:events-9+drip"),),
    "long events": (streamed(model="fault:huge-300000"),),
    "malformed event": (streamed(model="fault:malformed"),),
    "error event": (streamed(model="fault:error-event"),),
    "refused": (streamed(model="fault:status-429"),),
    "failed": (streamed(model="fault:status-500"),),
    "unknown model": (streamed(model="gpt-nope"),),
    "unknown field": (streamed(nonsense=[]),),
    "reasoning model": (streamed(model="o3"),),
}

ODD_NUMBERS = {
    "1e400": "1e400", "-1e400": "-1e400", "1e-400": "1e-400", "NaN": "NaN", "Infinity": "Infinity",
    "-Infinity": "-Infinity", "4,000 digits": "7" * 4000, "4,000 decimals": f"0.{'3' * 4000}", "0.0": "0.0", "-0": "-0",
    "1E+2": "1E+2", "64 bits and one more": "18446744073709551616",
}  # fmt: skip
# Bytes where a string's content stands.
ODD_STRINGS: dict[str, bytes] = {
    "lone surrogate, escaped": rb"a\ud83db",
    "lone surrogate, raw": b"a\xed\xa0\xbdb",
    "surrogate pair, escaped": rb"\ud83d\ude00",
    "surrogates the wrong way round": rb"\ude00\ud83d",
    "invalid UTF-8": b"a\xff\xfe\xc3(b",
    "half a character": b"\xf0\x9f\x98",
    "overlong": b"\xc0\xaf",
    "Latin-1": "Grüße".encode("latin-1"),
    "raw newline": b"a\nb\r\n",
    "raw tab": b"a\tb",
    "raw control characters": b"a\x01\x1f\x7fb",
    "raw NUL": b"a\0b",
    "NUL, escaped": rb"a\u0000b",
    "every escape": rb"\"\\\/\b\f\n\r\t\u00e9",
    "line separators": "a\u2028b\u2029c".encode(),
    "BOM inside": "\ufeffa".encode(),
    "emoji": "👩‍👩‍👧‍👦🇺🇦".encode(),
    "brackets": rb"}]{[\",:",
}
IMAGE_OF_5_MB = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 650_000}}
BIG_TEXT = [{"type": "text", "text": "Ünï " * 50_000}]
ODD_JSON: dict[str, str | bytes] = {
    **{
        f"number {name}": f'{{"model":"gpt-4o-mini","seed":{number},{MESSAGES}}}'
        for name, number in ODD_NUMBERS.items()
    },
    **{
        f"string {name}": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"%b"}]}' % content
        for name, content in ODD_STRINGS.items()
    },
    "model twice": f'{{"model":"gpt-nope",{MESSAGES},"model":"gpt-4o-mini"}}',
    "messages twice": f'{{"messages":[],"model":"gpt-4o-mini",{MESSAGES}}}',
    "name escaped": f'{{"mod\\u0065l":"gpt-4o-mini",{MESSAGES}}}',
    "name of invalid UTF-8": b'{"model":"gpt-4o-mini","\xff":1}',
    "pretty": json.dumps({"model": "gpt-4o-mini", "messages": HI}, indent=4),
    "tabs and CRLF": f'{{\t"model"\r\n:\t"gpt-4o-mini"\r\n,\r\n{MESSAGES}\t}}',
    "space around": f' \n\t{{"model":"gpt-4o-mini",{MESSAGES}}}\r\n\r\n ',
    "500 levels deep": f'{{"model":"gpt-4o-mini",{MESSAGES},"metadata":{"[" * 500}{"]" * 500}}}',
    "empty object": "{}",
    "empty object, with space": "{ }",
    "5 MB": json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [IMAGE_OF_5_MB, *BIG_TEXT]}]}),
    "9,990 members": json.dumps({"model": "gpt-4o-mini", **{f"member{number}": number for number in range(9_989)}}),
}
JSON_BODIES: dict[str, Exchange] = {name: (raw_chat(body),) for name, body in ODD_JSON.items()}


def _streaming(body: str | bytes) -> Sent:
    """Makes a call with the given JSON body, into which `"stream":true` is inserted as the first member.

    The gateway adds its own member, by which it asks for the usage, in front of that.
    """
    data = body.encode() if isinstance(body, str) else body
    return raw_stream(data.replace(b"{", b'{"stream":true,', 1), AT_START)


JSON_STREAMED: dict[str, Exchange] = {
    name: (_streaming(ODD_JSON[name]),)
    for name in (
        "number 1e400", "number NaN", "number 4,000 digits", "string lone surrogate, escaped",
        "string lone surrogate, raw", "string invalid UTF-8", "string raw newline", "string raw NUL", "string emoji",
        "model twice", "tabs and CRLF", "space around", "pretty", "5 MB",
    )
}  # fmt: skip

QUERIES = (
    "a=1", "a=1&a=2&A=3", "include[]=x&include[]=y", "include%5B%5D=x", "a=%20+%2B", "a=", "a", "&&a&", "=", "a=b=c",
    "a=%", "a=%zz", "a='\"<>|{}", "a=%C3%BC%FF", "a=http://example.com/..//", "limit=2&order=asc&after=nothing",
    "a=" + "x" * 8000, "a=?", "a=1?b=2", "a=%00%0d%0a", "api-version=2024-10-21",
)  # fmt: skip
QUERY: dict[str, Exchange] = {
    **{f"models ?{query[:30]}": (get(f"/models?{query}"),) for query in QUERIES},
    "of a post": (post("/embeddings?a=%2F&b", {"model": "text-embedding-3-small", "input": "x"}),),
    "many": (get("/models?" + "&".join(f"q{number}={number}" for number in range(1500))),),
}

PATHS: dict[str, Exchange] = {
    path: (get(path),)
    for path in (
        "/models/gpt-4o-mini", "/models/ft:gpt-4o-mini:org:name:id", "/models/org%2Fmodel", "/models/org%2fmodel",
        "/models/a%20b%C3%BC", "/models/%67pt-4o-mini", "/models/a+b", "/models/a~b!$&'()*,=@", "/models/%FF",
        "/models/a%3Fb%23c", "/models/%25", "/models/", "/%6dodels", "/models/...", "/models/a..b",
        "/models/" + "m" * 900, "/models/gpt-4o-mini/unknown/below", "/responses/resp_none",
        "/responses/resp_none/unknown", "/chat/completions/none", "/chat/completions/none/messages",
        "/conversations/none", "/conversations/none/items/none", "/audio/voices", "/images/unknown", "/embeddings",
    )
}  # fmt: skip

HEADERS: dict[str, Exchange] = {
    name: (post("/chat/completions", {"model": "gpt-4o-mini", "messages": HI}, *lines),)
    for name, lines in {
        "repeated": (b"X-Twice: 1", b"X-Other: 0", b"X-Twice: 2", b"x-twice: 2"),
        "UTF-8": ("X-Name: Zoë ✓".encode(),),
        "empty": (b"X-Empty:", b"X-Space: \t "),
        "long": (b"X-Long: " + b"v" * 8000,),
        "odd characters": (b'X-Odd: a,b;c="d\\e" (f)', b"X-!#$%&'*+.^_`|~: token"),
        "the SDK's own": (b"X-Stainless-Lang: python", b"X-Stainless-Retry-Count: 0", b"User-Agent: OpenAI/Python 3.0"),
        "beta, idempotency": (b"OpenAI-Beta: assistants=v2", b"Idempotency-Key: abc"),
        "account": (b"OpenAI-Organization: org-x", b"OpenAI-Project: proj_x"),
        "accept": (b"Accept: text/event-stream", b"Accept-Language: uk, en;q=0.5"),
        "a request id": (b"X-Request-Id: mine", b"X-Client-Request-Id: mine too"),
        "many": tuple(b"X-Number-%d: %d" % (number, number) for number in range(90)),
        "encodings": (b"Content-Language: uk", b"Range: bytes=0-10", b"If-None-Match: \"x\""),
    }.items()
}  # fmt: skip
_CHAT_BODY = json.dumps({"model": "gpt-4o-mini", "messages": HI}).encode()
CONTENT: dict[str, Exchange] = {
    "charset": (Sent("POST", b"/chat/completions", (b"Content-Type: application/json; charset=utf-8",), _CHAT_BODY),),
    "capitals": (Sent("POST", b"/chat/completions", (b"content-TYPE: Application/JSON",), _CHAT_BODY),),
    "no type": (Sent("POST", b"/chat/completions", (), _CHAT_BODY),),
    "no type, streamed": (
        Sent("POST", b"/chat/completions", (), _CHAT_BODY.replace(b"{", b'{"stream":true,', 1), asks=AT_START),
    ),
    "another JSON": (Sent("POST", b"/chat/completions", (b"Content-Type: application/vnd.x+json",), _CHAT_BODY),),
    "empty, with a type": (post("/chat/completions", b""),),
    "empty, without": (Sent("POST", b"/chat/completions", (), b""),),
    "empty, no length": (Sent("POST", b"/conversations"),),
    "empty, chunked": (post("/conversations", b"", chunk=1),),
    "empty on every route": tuple(
        Sent("POST", path, (), b"")
        for path in (b"/responses", b"/embeddings", b"/audio/speech", b"/images/generations", b"/moderations")
    ),
    "chunked": (post("/chat/completions", _CHAT_BODY, chunk=10),),
    "chunked in single bytes": (post("/chat/completions", _CHAT_BODY, chunk=1),),
    "chunked, streamed": (
        post("/chat/completions", _CHAT_BODY.replace(b"{", b'{"stream":true,', 1), chunk=7, asks=AT_START),
    ),
    "of a get": (Sent("GET", b"/models", (JSON,), b'{"a":1}'),),
    "of a delete": (Sent("DELETE", b"/models/x", (JSON,), b'{"a":1}'),),
}

STORED: dict[str, Exchange] = {
    "completions": (
        chat(store=True, metadata={"a": "ü"}),
        get("/chat/completions"),
        get("/chat/completions?model=gpt-4o-mini&metadata[a]=%C3%BC&limit=1&order=desc"),
        get("/chat/completions/{id}"),
        post("/chat/completions/{id}", '{"metadata":{"a":"b","stream":"true"}}'),
        post("/chat/completions/{id}", '{"stream":true,"metadata":{}}'),
        get("/chat/completions/{id}/messages?limit=1"),
        delete("/chat/completions/{id}"),
        get("/chat/completions/{id}"),
    ),
    "responses": (
        post("/responses", {"model": "gpt-4o-mini", "input": "Hi ✓", "metadata": {"a": "b"}}),
        get("/responses/{id}"),
        get("/responses/{id}?include[]=message.output_text.logprobs&include[]=reasoning.encrypted_content"),
        get("/responses/{id}/input_items?limit=1&order=asc"),
        post("/responses/{id}/cancel", b""),
        delete("/responses/{id}"),
        get("/responses/{id}"),
    ),
    "streamed responses": (
        post("/responses", {"model": "gpt-4o-mini", "input": "Hi", "stream": True, "background": True}),
        get("/responses/{id}?stream=true"),
        get("/responses/{id}?stream=true&starting_after=3&include_obfuscation=false"),
        get("/responses/{id}?stream=maybe"),
        Sent("POST", b"/responses/{id}/cancel"),
    ),
    "conversations": (
        post("/conversations", {"items": [{"role": "user", "content": "a"}], "metadata": {"x": "y"}}),
        get("/conversations/{id}"),
        post("/conversations/{id}", {"metadata": {"x": "z"}}),
        post("/conversations/{id}/items?include[]=a", {"items": [{"id": "msg_1", "role": "user", "content": "b"}]}),
        get("/conversations/{id}/items?limit=1"),
        get("/conversations/{id}/items/msg_1"),
        post("/responses", '{"model":"gpt-4o-mini","input":"c","conversation":"conv_none"}'),
        delete("/conversations/{id}/items/msg_1"),
        delete("/conversations/{id}"),
        get("/conversations/{id}"),
    ),
}


def respond(**fields: Any) -> Exchange:
    return (post("/responses", {"model": "gpt-4o-mini", "input": "Hi ✓", **fields}),)


RESPONSES: dict[str, Exchange] = {
    "plain": respond(),
    "streamed": respond(stream=True),
    "streamed, unpadded": respond(stream=True, stream_options={"include_obfuscation": False}),
    "streamed, options null": respond(stream=True, stream_options=None),
    "tools": respond(tools=[{"type": "function", **WEATHER}], tool_choice="required", stream=True),
    "hosted tools": respond(tools=[{"type": "web_search"}, {"type": "image_generation"}], stream=True),
    "schema": respond(text={"format": {"type": "json_schema", "name": "p", "schema": PERSON}}),
    "reasoning": respond(model="gpt-5", reasoning={"effort": "low", "summary": "auto"}, stream=True),
    "image": respond(input=[{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]),
    "background": respond(background=True),
    "incomplete": respond(max_output_tokens=16, input="a " * 60, stream=True),
    "unknown previous": respond(previous_response_id="resp_none"),
    "compact": (post("/responses/compact", {"model": "gpt-4o-mini", "input": "a"}),),
    "input tokens": (post("/responses/input_tokens", {"model": "gpt-4o-mini", "input": "a"}),),
    "many events in pieces": respond(model="fault:events-50+split-97", stream=True),
    "error event": respond(model="fault:error-event", stream=True),
    "duplicate names": (post("/responses", '{"model":"x","stream":false,"model":"gpt-4o","input":"a","stream":true}'),),
}


def embed(**fields: Any) -> Exchange:
    return (post("/embeddings", {"model": "text-embedding-3-small", "input": "Grüße", "dimensions": 64, **fields}),)


OTHERS: dict[str, Exchange] = {
    "embeddings": embed(),
    "embeddings, floats": embed(encoding_format="float", input=["a", "b"]),
    "embeddings, base64": embed(encoding_format="base64", user="u"),
    "embeddings, tokens": embed(input=[[1, 2], [3]]),
    "embeddings, refused": embed(input=[]),
    "embeddings, full": embed(dimensions=1536, input=["x"] * 50),
    "speech": (post("/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hallo ✓ " * 40}),),
    "speech, wav": (
        post("/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "x", "response_format": "wav"}),
    ),
    "speech, events": (
        post("/audio/speech", '{"model":"gpt-4o-mini-tts","voice":"a","input":"Hi","stream_format":"sse"}'),
    ),
    "speech in pieces": (post("/audio/speech", {"model": "fault:split-100", "voice": "alloy", "input": "Hi"}),),
    "speech, refused": (post("/audio/speech", {"model": "tts-1", "voice": "alloy"}),),
    "image": (post("/images/generations", {"model": "gpt-image-1", "prompt": "a cat", "n": 3, "size": "1024x1024"}),),
    "image, streamed": (
        post("/images/generations", {"model": "gpt-image-1", "prompt": "x", "stream": True, "partial_images": 2}),
    ),
    "image, a link": (post("/images/generations", {"model": "dall-e-3", "prompt": "a “cat”"}),),
    "moderation": (post("/moderations", {"input": ["I will kill you", "tea"]}),),
    "moderation, parts": (post("/moderations", {"model": "x", "input": [{"type": "text", "text": "murder"}]}),),
    "models": (get("/models"),),
    "model, deleted": (delete("/models/ft:gpt-4o-mini:org::id"),),
}

FAULTS: dict[str, Exchange] = {
    fault: (post("/chat/completions", _CHAT_BODY, b"X-Simulator-Fault: " + fault.encode()),)
    for fault in (
        *(f"status-{status}" for status in (201, 202, 400, 401, 403, 404, 408, 409, 413, 418, 422, 429)),
        *(f"status-{status}" for status in (500, 502, 503, 504, 529)),
        "html",
        "redirect",
        "bad-json",
        "split-5",
        "drip",
        "slow-0.05",
    )
}
FAULTS |= {f"get {fault}": (get("/models", b"X-Simulator-Fault: " + fault.encode()),) for fault in ("html", "split-9")}

GROUPS: dict[str, Mapping[str, Exchange]] = {
    "chat": CHAT,
    "stream_options": STREAM_OPTIONS,
    "chat stream": STREAMS,
    "body": JSON_BODIES,
    "streamed body": JSON_STREAMED,
    "query": QUERY,
    "path": PATHS,
    "header": HEADERS,
    "content": CONTENT,
    "stored": STORED,
    "responses": RESPONSES,
    "other": OTHERS,
    "upstream says": FAULTS,
}
