"""What stands before Django's own pages: the admin, "My usage" and static files.

In the order of a request: `django_gate` (body, Host, method), `page_pace` (how many pages are made for visitors),
`static_files`, `response_headers`, `signed_sessions`. Logins: `login_throttle` counts attempts, `known_device` gives a
device that has signed in a count of its own, `password_hashing` hashes in one thread of low priority. When something
fails: `database_away`, `debug_pages`.

Imports `proxyapi` and `usage`, not `http` or `processes`.
"""
