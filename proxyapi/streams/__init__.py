"""An answer on its way down while upstream still sends it.

`relay` takes upstream's bytes, has a copy read for the ledger and passes whole events; `stream_end_recording` writes
the call's row before the last bytes leave. `sending` sends them to the caller, with comments while nothing comes, and
ends the answer cleanly or by a cut connection. `early_stream` begins a stream before upstream has answered. `sse`
frames events and makes events of our own (errors, `[DONE]`). `chat_usage_request` asks for the usage of a streamed
chat, and `chat_usage_removal` takes out of the answer what that adds. `response_head` is the head of every answer,
streamed or not.

Imports `proxyapi.call` and below; not a view or an API.
"""
