"""The settings of the server: where they are read, and what is wrong with a value.

`setting_reader` lists every setting and reads it: from the environment, then from `.env` files (`env_file`), and a
secret also from a file of its own (`secret_files`). `misspelt_names` finds variables that would be ignored.
`setting_parsers` turn the text of a setting into a typed value: `service_urls` checks the URLs of upstream, PostgreSQL
and Redis, `database_settings` and `sign_in_settings` make settings of Django and of django-allauth, and
`secret_strength` refuses a secret that is easily guessed. `chatproxy.settings` gives the values to
Django, `proxyapi.cached_settings` to calls.

Imports `chatproxy.root_path`, and of `proxyapi` and `usage` what knows routes and addresses; not Django's settings,
since they are made from here.
"""
