"""Handing a key over: what the page of a new secret shows, and what helps to make the key before.

`handover` has the content of that page, with the message for a colleague. It is made of `first_call` (an endpoint and a
model that the key may use), `snippets` (the tabs: the first call for each client) and `key_words` (limits and budgets
in a sentence). It contains the secret, so it is shown once and stored nowhere.

`model_list` is the form field of allowed models, a list with prices. `presets` are the usual kinds of keys.
"""
