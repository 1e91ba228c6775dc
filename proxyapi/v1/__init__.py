"""`/v1`: OpenAI's own API, passed through. A client changes its base URL and its key, and nothing else.

`views` passes bodies as they come, both ways. `list_filter` removes the objects of other keys from lists. `openapi`
describes `/v1` in `/openapi.json`. The paths are in `proxyapi.routes`. Only three modules change the bytes that pass:
`proxyapi.streams.chat_usage_request`, `chat_usage_removal` and `proxyapi.limits.output_limits`.

May import `proxyapi.dispatch` and the folders before it, but not `simple_api`.
"""
