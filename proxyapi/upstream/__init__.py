"""The way to the OpenAI API (or to another server with its API) and back: one request, one answer.

From the top down: `client` sends a `request` for the account that pays for it, and returns an `answer`. `sdk`, a
program of its own, asks the OpenAI SDK for the base URL and the headers. `fault_answers` converts a fault to the error
that the caller gets. `transport` keeps the connections and opens new ones (`proxies`: through which proxy).
`connection` is one socket, and `exchange` one request and its answer on a connection; `faults` are the ways in which an
exchange fails. `passed_headers` says which headers pass in which direction. `self_calls` detects an upstream that is
this gateway itself.

This folder imports neither the call nor the ledger: it does not know who calls, or what is recorded. The host of a
request never comes from a caller.
"""
