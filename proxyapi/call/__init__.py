"""One call of the API: its request, its body, its facts, and the record that it leaves.

`caller_connection` is the interface to the caller's connection. `request_body` receives the body, whole or in pieces,
under a cap and a time limit, and notices the caller's departure. `call_request` is Django's and DRF's request around
it. `parsers` turn the body into data; `uploads` passes a form to upstream while it arrives; `gateway_fields` takes the
fields of this gateway (`security_key`, `timeout`, …) out of a request. `capacity` counts the calls in flight and drains
them.

`call` is one call, from its admission to its row in the ledger: `begin` before upstream hears of it, `end` exactly
once. Its parts: `facts` (what is known of it), `journal_rows` (the rows that it leaves), `call_resources` (what it
holds while it lasts: slots, and what it has reserved of limits and budgets). `background_polling` asks upstream about
background responses that nobody has fetched, so that they are counted.

Imports everything below (`proxyapi.__init__` has the order); not `streams`, a view or an API.
"""
