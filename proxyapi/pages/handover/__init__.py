"""The pages that help to make a key and to hand its secret over to the person who will use it.

`handover` has the content of the page that shows a new secret, with a message for a colleague. The content is built by
`first_call` (an endpoint and a model that the key may use), `snippets` (one tab per client, with the first call) and
`key_words` (limits and budgets in a sentence). It has the secret in it, so it is shown once and stored nowhere.

`model_list` is the form field of allowed models, a list with prices. `presets` are the usual kinds of keys.
"""
