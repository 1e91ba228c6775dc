"""Reading of request and answer bodies: JSON and forms, with the place of each part in the bytes.

`json_members` reads a JSON object with the places of its members, so that one can change while every other byte stays.
`json_body` is the JSON body of a request, parsed once for all checks; `received_object` makes it of a body of the
simple API, out of which the gateway's own members are cut. `form_headers` and `form_reader` read multipart forms by one
strict grammar, and `form_cutter` takes parts out of a form that passes. `model_places` finds the models that a request
names in either, `billing_parameters` what upstream bills by and does not repeat in its answer, and `labels` what the
call is for: its end user, session and tags. `large_bodies` runs the
work on large bodies in a thread and refuses JSON beyond its bounds. `decoding` decodes content encodings (gzip and
others) in bounded steps; `request_encoding` says which a request may have.

`usage.kept_bodies` is about something else: what the ledger keeps of a body, after the call.

Nothing here knows a key, a call or a view. Imports: `proxyapi.exceptions`, and `usage.kept_bodies.excerpts` for the
parts of forms.
"""
