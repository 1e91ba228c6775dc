"""Reads upstream's answers for the ledger: text, tokens, errors, ids of new objects.

`reader` reads whole answers and events by the same rules, from a copy of the bytes. It uses `event_stream` (the grammar
of server-sent events), `event_kinds` (the meaning of events' types, and which events may be read later), `json_outline`
(JSON that is too large or too odd for a parser), `tokens` (the usage object), `tool_use` (work that upstream bills
beside the usage object: searches, pictures, containers), `errors` (errors in the shapes of many servers), `created_ids`
(ids of the objects that a call has created) and `streamed_text` (the text of a streamed answer). `estimate_rules` and
`audio_duration` estimate usage that upstream has not stated. `row_texts` cuts and redacts the texts of a row. No
content of an answer makes this code raise an error.

May import `usage.kept_bodies.body_excerpts`.
"""
