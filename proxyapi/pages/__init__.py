"""Pages and reports outside the API's calls: for visitors, monitors, programs and owners of keys.

`index` (the front page, `/healthz`, `/readyz`), `docs` (`/docs`, `/openapi.json`), `monitoring` (what needs the access
token: the log, the runtime), `reports` (`GET /usage`, `/metrics`). `my_usage` is the site that a key opens for its
owner; `key_usage` is the usage page of one key, for that site and for the admin. `page_headers` are the security
headers of our pages.

Imports everything of this package but `admin` and `urls`, and `usage` for all numbers.
"""
