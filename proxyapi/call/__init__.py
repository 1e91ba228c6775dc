"""One call of the API: its request, its body, the facts known of it, and the record that it leaves in the ledger.

`caller_connection` is the interface to the caller's connection. `request_body` receives the body, whole or in pieces,
under a cap and a time limit, and notices the caller's departure. `call_request` has the request objects for Django and
Django REST framework. `parsers` turn the body into data; `uploads` passes a form to upstream while it arrives;
`gateway_fields` takes the fields of this gateway (`security_key`, `timeout`, …) out of a request. `capacity` counts the
calls in flight and drains them.

`call` is one call, from its admission to its row in the ledger: `begin` before the call is sent upstream, `end` exactly
once. Its parts: `call_facts` (what is known of the call), `journal_rows` (the rows that it leaves), `call_resources`
(the slots, limits and dollars that it holds while it lasts). `background_polling` asks upstream about background
responses that nobody has fetched, so that their usage is counted.

This folder may import the folders that stand before it in the list of `proxyapi.__init__`; it imports no stream, view
or API.
"""
