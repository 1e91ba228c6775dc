"""How scripts manage keys and teams: by commands, and by the management API (`/api`).

`spender_command` is the base class of the commands about keys and teams; Django finds the commands in `commands`. Of
the management API, `api_views` has the views, `api_actions` performs the actions, each in one transaction, and
`api_fields` has the JSON objects. `api_actions` and `api_fields` are loaded at the first request.

May import everything of `proxyapi` except `admin` and `urls`.
"""
