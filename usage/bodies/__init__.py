"""What is kept of a call's bodies: their text, short, without secrets and without base64.

`kept_bodies` makes it, `elision` replaces base64 and vectors by their kind and size, `redaction` takes secrets out;
`encodings` and `escapes` find the spellings in which a secret can be written. All of it runs on the event loop for
every call: nothing here raises, and its time is linear in the text.

Imports nothing of this package.
"""
