"""What the tests ask the simulator for, and how they read its streams."""

import json
from typing import Any

import httpx2

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is TypeScript?"}]}
WEATHER = {
    "name": "get_weather",
    "description": "Get current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["location"],
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
AUDIO = ("audio.mp3", b"\xff\xfb\x90\x00" * 8000, "audio/mpeg")


def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    blocks = response.text.split("\n\n")
    data = ["\n".join(line[6:] for line in block.splitlines() if line.startswith("data: ")) for block in blocks]
    return [json.loads(one) for one in data if one and one != "[DONE]"]
