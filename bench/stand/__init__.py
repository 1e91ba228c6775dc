"""What every measure runs on: servers, upstream, load, and the yardstick B.

`stand` starts the gateway on one core; `load`, `streams` and `requests` are its callers; `upstream` answers;
`processes` reads CPU time and memory. `yardstick`, `nginx` and `litellm` are what the gateway is compared with.
"""
