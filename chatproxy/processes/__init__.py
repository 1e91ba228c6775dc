"""gunicorn's master, its workers and the shipper: their settings, signals, start and end.

In the order of a server's life: `gunicorn_conf` has the master's settings, and uses no Django. `unix_signals` says what
each signal does to the master and to a worker. `shipper_watch` starts the shipper, and ends it after the workers.
`shipper_process` is the shipper itself, with the threads `polling_thread` and `database_watch`. `worker` is uvicorn
inside gunicorn; `draining_server` is the server in a worker, which stops without failing a call, and `heap` lets it
keep memory. `lifespan` starts the parts of a worker before its first call, and ends them after its last one;
`exit_steps` isolates the steps of that end, so that a step that fails or hangs does not stop the others. `upgrade`
replaces the workers, or the whole server, by new code while calls go on.

`gunicorn_conf`, `unix_signals`, `shipper_watch`, `exit_steps`, `upgrade`, `draining_server` and `worker` must not
import Django, `settings` or models when they are loaded: the master loads them. `lifespan` may import everything but
`chatproxy.entry` and `chatproxy.asgi`.
"""
