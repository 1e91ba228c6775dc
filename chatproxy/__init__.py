"""The Django project: the settings, the server's processes, and the code in front of calls and of Django's pages.

How a server starts, runs and stops:

    manage.py serve                   management.commands.serve
      │  reads the settings           configuration.setting_reader; settings (Django's)
      │  checks this machine          doctor.checkup, as `manage.py doctor` does; then the port (start.startup)
      │  starts PostgreSQL            postgres.bundled, when DATABASE_URL is unset
      │  checks the database          doctor.checkup, when it answers (start.startup)
      │  migrates                     start.startup, while it holds a lock in the database
      │  checks, makes secrets        doctor.checkup, start.first_start; then the first admin
      │  prints the banner
      ▼  exec: the same process, without Django
    gunicorn's master                 processes.gunicorn_conf; what each signal does: processes.unix_signals
      │  postgres.watch               starts the bundled PostgreSQL again when it was killed
      │  processes.shipper_watch      starts the shipper, and starts it again when it has ended
      ├─ shipper                      management.commands.ship, processes.shipper_process: journals into the tables
      ├─ workers (WEB_CONCURRENCY)    processes.worker: uvicorn, one event loop each
      │    │  sets Django up          asgi
      │    │  starts the parts        processes.lifespan: the ledger, the keys in memory, limits, tasks
      │    ▼  for each request
      │    http                       reads it at the socket, within bounds (http.protocol)
      │    entry                      checks the head, takes off the root path (root_path), and chooses:
      │      ├─ page_protection, then Django    the admin, "My usage" and static files (urls)
      │      └─ proxyapi                        everything else is a call
      ▼
    SIGTERM, Ctrl-C                   processes.unix_signals: the master lets the workers drain;
                                      a later one cancels calls
      │  the worker drains            processes.draining_server: the port is closed, what was accepted is finished
      │  the parts end                processes.lifespan, in reverse order; a step that fails stops no other
      ▼                               (processes.exit_steps)
    the shipper ships the rest        processes.shipper_process, when master and workers have ended, however they have
    PostgreSQL stops                  processes.gunicorn_conf, when the master ends

If a worker or the shipper dies, the master starts a new one. If the master dies, the workers finish their calls and
exit, and then the shipper exits.

The folders, and what a module of each may import (`tests/test_architecture.py` holds it; from the ground up):

    this level          no folder, with the exceptions below; has `root_path`, `models`, `alert_models`, `version`
                        and `process_restarts` (a thread that starts a process again), too
    configuration       this level
    logs                this level, configuration
    http, postgres      what is above this line; not each other
    settings            what is above this line
    start, page_protection               what is above this line; not each other
    alerts                               what is above this line, except page_protection
    processes                            what is above this line, except start and page_protection
    doctor              what is above this line, except processes and page_protection
    backup              what is above this line
    entry, asgi, urls, management, admin, templatetags    everything

Everything may import `proxyapi` and `usage`, which import nothing of this package.
"""
