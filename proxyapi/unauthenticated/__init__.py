"""Limits on what a sender without a valid key can take from a worker: memory, CPU time, answers.

In the order of a request: `answer_pace` delays the answers to a flood of small requests. `body_memory` limits the
memory for bodies whose sender is unknown. `key_search` looks for a valid key in such a body, without a parser.
`wrong_key_pace` answers 429 when a client has sent too many wrong keys in a minute. All of them count by
`client_network`: an IPv4 address, or a network of IPv6. A request with a valid key is never slowed down.

May import `proxyapi.keys`, but nothing about calls.
"""
