"""Handles each call, from the caller's socket to its row in the ledger, and the keys that admit calls.

A call of the API passes these folders, in this order::

    client
      │  chatproxy.http.protocol    HTTP at the socket; chatproxy.entry chooses: a page for Django, or a call
      ▼
    dispatch.asgi_handler           gives the call its id and its route, and sends the answer
    call.request_body               receives the body, up to a size and a time limit; notices when the caller leaves
    │   unauthenticated             until a valid key is seen: a budget of memory, a search for the key, a slower pace
    dispatch.call_view              the order of a call, for both APIs:
    │   dispatch.authentication     which key? keys.keyring answers from memory, without a query
    │   call.capacity               a slot among the calls in flight
    │   dispatch.permissions        may the key use this route?
    │   dispatch.throttling         requests, tokens and parallel calls of the key: limits.limiter, limit_counters
    │   call.parsers                the body becomes data
    │   simple_api.*  or  v1.views  the endpoint: builds the request for upstream (v1: the body as it came)
    │   dispatch.model_policy       may the key use the models that the request names?
    │   object_owners.ownership_check   does every stored object that it names belong to the key?
    │   limits.budgets              reserves the highest possible cost of the call (limits.cost_ceiling)
    │   call.call  begin            one write to the journal (usage.ledger). No room on the disk: 503, and the call is
    │                               not sent upstream
    ▼
    upstream.client                 whose account pays, and what upstream's failures mean
    upstream.transport              the sockets; upstream.exchange: one request and its answer on one connection
      ▼
    upstream
      │
    call.call                       reads a copy of the answer: text, tokens, ids of new objects
    │   object_owners.owner_recording   records who owns a new object before its id leaves
    │   streams.relay               an answer that passes as it arrives, in whole events; streams.sending sends it
    │   streams.stream_end_recording    the row goes to the journal before the last byte of the answer leaves
    ▼
    client

When the caller of a call that is no stream hangs up and the key has a budget, the call goes on until upstream has
stated its usage (`call.request_body`, `dispatch.caller_deadline`).

A streamed answer is owned by `dispatch.asgi_handler`, not by a generator: whatever ends the call (its normal end, the
caller's departure, a timeout, upstream's death) closes the relay once, and that closes upstream and writes the row.

The other folders: `bodies` reads JSON and forms, and notes where each part is in the bytes, so that one part can change
while all other bytes stay; `pages` has the pages and reports for people, monitors and holders of keys. The modules of
this level have the tables of keys (`models`) and of teams (`team_models`), the admin's pages of keys, the errors of the
API (`exceptions`), the routes of `/v1` (`routes`), the settings that calls read (`cached_settings`), and small helpers
that all folders may import.

A module may import only what stands to the left of it in this list: the modules of this level (but `admin` and `urls`,
which import everything) ← bodies ← keys ← unauthenticated ← upstream ← limits ← object_owners ← call ← streams ←
dispatch ← simple_api, v1 ← pages. This package imports `usage`, never `chatproxy`. `tests/test_architecture.py` holds
this order.
"""
