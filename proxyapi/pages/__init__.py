"""Pages and reports beside the API: for visitors, monitoring tools, scripts and holders of keys.

* `index`: the front page, `/healthz` and `/readyz`.
* `docs`: `/docs`, and `/openapi.json`, which `api_description` generates.
* `monitoring`: the log and the runtime facts, which need the access token.
* `reports`: `GET /usage` and `/metrics`.
* `my_usage`: the site "My usage" for the holder of a key, who signs in with the key's secret (`key_sessions` has the
  cookie). `my_keys`: its pages for people with an account, with their keys and those of teams that they lead.
* `key_usage`: the usage page of one key, for that site and for the admin.
* `handover` (a folder): the page that shows a new key's secret once.
* `own_calls` (a folder): the single calls of a key, for that site.
* `page_headers`: the security headers of these pages.
* `admin_forms`, `team_admin`: the admin's forms of keys and teams, and its pages of teams.

May import everything of this package but `admin` and `urls`, and `usage` for all numbers.
"""
