"""`/v1`: OpenAI's own API, passed through. A client changes its base URL and its key, and nothing else.

`views` passes bodies as they come, both ways. `list_filter` shows a key only its own objects in a list. `openapi`
describes `/v1` in `/openapi.json`. Which paths there are is `proxyapi.routes`. What passes is changed by
`proxyapi.streams.chat_usage_request`, `chat_usage_removal` and `proxyapi.limits.output_limits` only.

Imports `proxyapi.dispatch` and below, not `simple_api`.
"""
