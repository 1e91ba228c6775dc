"""The code in front of Django's own pages: the admin, "My usage" and static files.

In the order of a request: `django_gate` checks Host and method and receives the body; `page_pace` bounds how many pages
are made for visitors who have not signed in; `django_pages` loads Django's handler; then the middleware:
`response_headers`, `debug_pages` and `database_unavailable` (what is shown when something fails), `static_files`,
`signed_sessions`, and `login_throttle`, which counts login attempts, with `known_device` for a device on which somebody
has signed in before. `password_hashing` hashes in one thread of low priority.

Imports `proxyapi` and `usage`; not `http` or `processes`.
"""
