"""Passes an answer to the caller while upstream is still sending it.

`relay` takes upstream's bytes, has a copy read for the ledger and passes whole events; `stream_end_recording` writes
the call's row before the last bytes leave. `sending` sends the bytes to the caller, with comments in pauses, and ends
the answer cleanly or by cutting the connection. `early_stream` begins a stream before upstream has answered. `sse`
finds the ends of events, and makes the gateway's own events (errors, `[DONE]`). `chat_usage_request` asks upstream for
the usage of a streamed chat, and `chat_usage_removal` removes from the answer what this request adds. `response_head`
makes the head of every answer, streamed or not.

May import `proxyapi.call` and the folders before it, but no view and no API.
"""
