"""`/v1`: OpenAI's own API, passed through. A client changes its base URL and its key, and nothing else.

`views` passes bodies as they come, both ways. `list_filter` shows a key only its own objects in a list. `openapi`
describes `/v1` in `/openapi.json`. Which paths there are is `proxyapi.routes`; the only change to what passes is
`proxyapi.streams.injected_usage`.

Imports `proxyapi.dispatch` and below, not `simple`.
"""
