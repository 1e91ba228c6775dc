"""The code in front of Django's own pages: the admin, "My usage" and static files.

In the order of a request: `django_gate` checks Host and method, and receives the body. `page_pace` limits how many
pages are made for visitors who have not signed in. `django_pages` loads Django's handler. Then comes the middleware:
`response_headers`, `debug_pages` and `database_unavailable` (the pages shown when something fails), `static_files`,
`signed_sessions`, and `login_throttle`, which counts login attempts; `known_device` recognises a device on which
somebody has signed in before. `password_hashing` hashes passwords in one thread of low priority. `theme_templates`
corrects the templates of the admin's theme.

May import `proxyapi` and `usage`, but not `http` or `processes`.
"""
