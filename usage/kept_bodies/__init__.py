"""Makes the excerpts of bodies that the ledger keeps: their text, short, without secrets and without base64.

`excerpts` makes an excerpt of a body or a form. `elision` replaces base64 and vectors by their kind and size;
`redaction` takes secrets out, also of other texts. `encoded_secrets` and `escapes` find the spellings in which a secret
can be written. All of that runs on the event loop for every call: nothing here raises, and the time it takes is linear
in the text. `error_messages` takes numbers and names out of the messages of errors, in the shipper, so that like ones
are counted together.

How a request's body is read and checked is in `proxyapi.bodies`.

Imports nothing of this package.
"""
