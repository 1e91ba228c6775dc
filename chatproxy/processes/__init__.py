"""gunicorn's master and its workers: their settings, signals and end.

`gunicorn_conf`: the master, which has no Django in it. The first SIGTERM or Ctrl-C drains, a second one cancels the
calls in flight. `worker`: uvicorn inside gunicorn; SIGTERM drains it, SIGQUIT cancels its calls. `shutdown`: the steps
of a worker's end, none of which depends on another.
"""
