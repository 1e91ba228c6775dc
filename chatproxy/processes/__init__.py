"""gunicorn's master, its workers and the shipper: their settings, signals, start and end.

In the order of a server's life: `gunicorn_conf` has the master's settings (and no Django in it); `unix_signals` says
what each signal does to the master and to a worker; `shipper_watch` starts the shipper, and ends it after the workers;
`shipper_process` is that process, in which `polling_thread` and `database_watch` are threads; `worker` is uvicorn
inside gunicorn, `draining_server` the server in it, which stops without failing a call, and `heap` lets it keep memory;
`lifespan` is what a worker starts before its first call and ends after its last one; `exit_steps` isolates the steps of
that end, so that one that fails or hangs does not stop the others. `upgrade` replaces the workers, or all of it, by new
code while calls go on.

`gunicorn_conf`, `unix_signals`, `shipper_watch`, `exit_steps`, `upgrade`, `draining_server` and `worker` must not
import Django, `settings` or models when they are loaded: the master loads them. `lifespan` may import everything but
`chatproxy.entry` and `chatproxy.asgi`.
"""
