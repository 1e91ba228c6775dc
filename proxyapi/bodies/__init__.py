"""Reading of request and answer bodies: JSON and forms, with the place of each part in the bytes.

`json_members` reads a JSON object with the places of its members, so that one member can change while every other byte
stays. `json_body` has the JSON body of a request, parsed once for all checks. `received_object` does the same for the
simple API, and cuts the gateway's own members out of the body. `form_headers` and `form_reader` read multipart forms by
one strict grammar, and `form_cutter` takes parts out of a form that passes. `model_places` finds the models that a
request names, in JSON or in a form. `billing_parameters` reads the request's parameters that decide its price and that
upstream does not repeat in its answer. `labels` reads for whom and for what the call is made: its end user, session and
tags. `large_bodies` runs the work on large bodies in a thread and refuses JSON beyond its bounds. `decoding` decodes
content encodings (gzip and others) in bounded steps; `request_encoding` says which a request may have.

`usage.kept_bodies` is another package: it decides which parts of a body the ledger stores after the call.

Nothing here knows a key, a call or a view. Imports: `proxyapi.exceptions`, and `usage.kept_bodies.body_excerpts` for
the parts of forms.
"""
