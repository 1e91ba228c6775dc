"""Makes the excerpts of bodies that the ledger stores: short texts without secrets and without base64.

`body_excerpts` makes an excerpt of a body or a form. `elision` replaces base64 and vectors by their kind and size.
`redaction` removes secrets, from other texts as well. `encoded_secrets` and `escapes` find secrets in other spellings.
All of this runs on the event loop for every call: it never raises an error, and its time is linear in the text.
`error_messages`, which runs in the shipper, removes numbers and names from error messages, so that similar ones are
counted together.

The reading and checking of a request's body is in `proxyapi.bodies`.

May import nothing of this package.
"""
