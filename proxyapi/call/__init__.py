"""One call: its request, its body, and the record of it.

`caller_connection` is what a call may ask of its caller's connection. `capacity` counts the calls in flight and drains
them. `request_body` receives the body: whole or in pieces, under a cap and a clock, and notices the caller's departure.
`call_request` is Django's and DRF's request around it. `parsers` turn the body into data; `uploads` passes a form to
upstream while it arrives; `gateway_fields` takes the fields of this gateway (`security_key`, `timeout`, …) out of it.
`record` is the call's life from admission to its row in the ledger: `begin` before upstream hears of it, `end` exactly
once. `background_responses` makes calls of the gateway's own: it asks upstream about background responses that nobody
fetched, so that they are counted.

Imports everything below (`proxyapi.__init__` has the order); not `streams`, a view or an API.
"""
