"""Limits on what a sender without a valid key can take from a worker: memory, CPU time, answers.

In the order of a request: `answer_pace` answers a flood of small requests late; `body_memory` is the budget of memory
for bodies whose sender is unknown; `key_search` looks for a valid key in such a body without a parser; `wrong_key_pace`
answers refused keys with 429 after so many in a minute. `client_network` is the unit in which all of them count: an
IPv4 address or a network of IPv6. A good key is never slowed down.

Imports `proxyapi.keys`; nothing of a call.
"""
