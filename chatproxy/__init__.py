"""The Django project: settings, the server's processes, and what stands in front of Django's own pages.

`environment` is where a setting is read: its name, default, type and meaning (`env_file`: `.env`; `service_urls`,
`secret_strength`: checks). `root_path` is the path under which clients reach the gateway. `settings` are Django's, from
it. `manage.py serve` (`management`) prepares with `start` and `postgres`, and then becomes gunicorn (`processes`).
`asgi` sets Django up, `entry` is the entry of a request: `http` has read it, `pages` guards what goes to Django,
everything else is a call of `proxyapi`.

Imports run down only: the modules of this level (but `asgi`, `entry`, `settings` and `urls`) ← http, postgres ← start,
processes; pages ← `entry` ← `asgi`. `processes.gunicorn_conf` and all that it imports run in gunicorn's
master, without Django.
"""
