"""HTTP at the socket, before anybody knows who is calling.

`protocol` is uvicorn's protocol with bounds on head and framing; `upgrades` reads a request that asks for another
protocol; `joining_transport` sends a head and its body in one packet. `connections` bounds how many there are,
`slow_readers` drops a client that takes nothing; `reading_turns` parses strangers'
bytes one piece at a time. `host_header` and `content_type` are checks of every request's head;
`head_refusal` answers those that fail.

Imports `proxyapi` for errors, headers and paces; nothing of the other folders here.
"""
