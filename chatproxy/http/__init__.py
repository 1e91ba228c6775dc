"""HTTP at the socket, before anybody knows who is calling.

In the order of a request: `connections` limits how many connections a worker keeps. `reading_turns` decides when the
bytes of a client without a valid key are parsed. `request_reader` parses them, with limits on head and framing;
`upgrades` helps with a request that offers another protocol, and `body_parts` saves copies of bodies. `host_header` and
`content_type` check every head, and `head_refusal` answers a request that fails a check. `protocol` is the connection
from its start to its end, and has the methods that calls use. `lingering_transport` sends the answer, and
`slow_readers` closes the connection of a client that does not read it. `access_log` writes a line for each request, if
the setting ACCESS_LOG is on.

May import `logs`, and `proxyapi` for errors, headers and paces; none of the other folders here, and not `settings`.
"""
