"""What upstream's answer says, for the ledger: text, tokens, errors, ids of new objects.

`answer` reads whole answers and events by the same rules, from a copy of the bytes. It uses `event_stream` (the grammar
of server-sent events), `json_outline` (JSON that is too large or too odd for a parser), `tokens` (the usage object),
`error_words`, `made_objects` and `answer_text` (the text of a streamed answer). `row_texts` cuts and redacts the texts
of a row. Nothing here raises because of what an answer says.

Imports `usage.bodies.kept_bodies`.
"""
