"""How scripts manage keys and teams: by commands, and by the management API (`/api`).

`spender_command` is the base class of the commands about keys and teams; Django finds the commands in `commands`. Of
the management API, `api_views` are the views, `api_actions` does what a request asks for, in one transaction, and
`api_fields` has the JSON objects. The latter two are loaded with the first request.

Imports everything of this package but `admin` and `urls`.
"""
