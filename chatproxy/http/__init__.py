"""HTTP at the socket, before anybody knows who is calling.

In the order of a request: `connections` bounds how many connections a worker keeps; `reading_turns` says when a
stranger's bytes are parsed; `request_reader` parses them, within bounds of head and framing, with `upgrades` for a
request that offers another protocol and `body_parts` to save copies of bodies; `host_header` and `content_type` check
every head, and `head_refusal` answers a request that fails a check. `protocol` is the connection from its start to its
end, with what a call may ask of it. `lingering_transport` sends the answer, and `slow_readers` closes the connection of
a client that does not read it. `access_log` writes a line for each request, if the setting says so.

Imports `proxyapi` for errors, headers and paces, and `logs`; none of the other folders here, and not `settings`.
"""
