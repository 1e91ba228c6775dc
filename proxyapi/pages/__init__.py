"""Pages and reports beside the API: for visitors, monitors, programs and holders of keys.

`index` (the front page, `/healthz`, `/readyz`), `docs` (`/docs`, and `/openapi.json`, which `api_description`
generates), `monitoring` (the log and the runtime, which need the access token), `reports` (`GET /usage`, `/metrics`).
`my_usage` is the site that the holder of a key opens with the key's secret (`key_sessions`: the cookie), and a person
with an account (`my_keys`: the keys of a person, and of a team that they lead); `key_usage` is the usage page of one
key, for that site and for the admin, and `handover` (a folder) what both show once when a key is made. `page_headers`
has the security headers of these pages. Of the admin are `admin_forms`, the forms of keys and teams, and `team_admin`,
the pages of teams.

Imports everything of this package but `admin` and `urls`, and `usage` for all numbers.
"""
