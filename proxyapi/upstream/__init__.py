"""The way to the OpenAI API (or to another server with its API) and back: one request, one answer.

From the top down: `client` sends a `request` on the account that pays for it and returns an `answer`; `sdk`, a program
of its own, asks the OpenAI SDK for the base URL and the headers. `failures` says what a fault means to the caller.
`transport` keeps the connections and opens new ones (`proxies`: through which proxy), `connection` is one
socket, `exchange` one request and its answer on it; `faults` are the ways in which an exchange fails. `passed_headers`
says which headers pass in which direction. `self_calls` notices an upstream that is this gateway itself.

This folder does not import the call or the ledger: nothing here knows who calls, or what is recorded. No host comes
from a caller.
"""
