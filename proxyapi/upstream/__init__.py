"""The way to the OpenAI API (or another server with its API) and back: one request, one answer.

`client` knows accounts and what upstream's failures mean; it alone imports the OpenAI SDK, which supplies the base URL
and an account's headers. Below it: `transport` keeps the connections and opens new ones (`proxies`: through which
proxy), `connection` is one socket, `exchange` one request and its answer on it; `faults` are the ways in which an
exchange fails. `passed_headers` says which headers pass in which
direction. `loops` notices an upstream that is this gateway itself.

Nothing here knows whose call it is or what is recorded of it. No host comes from a caller.
"""
