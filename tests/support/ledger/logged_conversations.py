"""Logged bodies of conversations with a model: a chat with tools, and a response with a search."""

from __future__ import annotations

from typing import Any

PICTURE = "<base64 image/png, 34,560 bytes>"
SAID = """## Weather in Paris

It is **20 °C** and sunny. See the [forecast](https://weather.example/paris).

| day | °C |
|---|---|
| Mon | 20 |
| Tue | 22 |

1. Take a hat
2. Drink `water`

```python
print("sunny")
```
"""
QUESTION = "What is the weather in Paris?\n    and tomorrow? **as written**"
ASKED: dict[str, Any] = {
    "model": "gpt-4.1",
    "temperature": 0.2,
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
    "messages": [
        {"role": "system", "content": "You are a **helpful** assistant.\n" + "Be brief and exact. " * 120},
        {"role": "user", "content": "Hello, invoice 4711 is missing."},
        {"role": "assistant", "content": "Which customer is it for?"},
        {"role": "user", "name": "ada", "content": [
            {"type": "text", "text": QUESTION},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "<base64 audio/wav, 9,120 bytes>", "format": "wav"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Nice"}'}},
        ]},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"celsius": 26}'},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny, 20 degrees"},
    ],
}  # fmt: skip
ANSWERED: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "length", "logprobs": None, "message": {
        "role": "assistant", "content": SAID, "refusal": None, "reasoning_content": "The user asks for the weather.",
        "annotations": [{"type": "url_citation", "url_citation": {
            "url": "https://weather.example/paris", "title": "Forecast for Paris", "start_index": 3, "end_index": 9}}],
    }}],
}  # fmt: skip
RESPONSE_ASKED: dict[str, Any] = {
    "model": "gpt-5",
    "instructions": "Cite your sources.",
    "previous_response_id": "resp_before",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "What is new?"},
                                     {"type": "input_file", "filename": "plan.pdf",
                                      "file_data": "<base64 application/pdf, 1,234 bytes>"}]},
        {"type": "function_call", "call_id": "call_9", "name": "get_news", "arguments": '{"n":3}'},
        {"type": "function_call_output", "call_id": "call_9", "output": "three news"},
    ],
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I look it up first."}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {
            "type": "search", "query": "news of today", "sources": [{"type": "url", "url": "https://news.example/a"}]}},
        {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["the plan"],
         "results": [{"file_id": "file_1", "filename": "plan.pdf", "score": 0.5, "text": "We plan to plan."}]},
        {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "print(6 * 7)",
         "container_id": "cntr_1", "outputs": [{"type": "logs", "logs": "42"}]},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PICTURE,
         "revised_prompt": "A quiet newsroom"},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "All is **well**.", "annotations": [
                {"type": "url_citation", "url": "https://news.example/a", "title": "News", "start_index": 0},
                {"type": "url_citation", "url": "javascript:alert(1)", "title": "Trap", "start_index": 0},
                {"type": "file_citation", "file_id": "file_1", "filename": "plan.pdf", "index": 3}]},
            {"type": "refusal", "refusal": "I cannot say more."}]},
    ],
}  # fmt: skip
STREAMED = (
    "[output 0: reasoning summary]\nLet me think.\n\n"
    '[output 1: function call get_weather]\n{"city":"Oslo"}\n\n'
    "[output 2: text]\nIt rains.\n\nIt **pours**."
)
