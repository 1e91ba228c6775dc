"""The settings of the server: reads them, and explains what is wrong with a value.

`setting_reader` lists every setting and reads it: from the environment, then from `.env` files (`env_file`), and a
secret also from a file of its own (`secret_files`). `misspelt_names` finds variables that would be ignored because of a
typing error. `setting_parsers` turn the text of a setting into a typed value: `service_urls` checks the URLs of
upstream, PostgreSQL and Redis, `database_settings` and `sign_in_settings` make settings of Django and of
django-allauth, and `secret_strength` refuses a secret that is easily guessed. `chatproxy.settings` gives the values to
Django, `proxyapi.cached_settings` to calls.

May import `chatproxy.root_path`, and the modules of `proxyapi` and `usage` about routes and addresses; not Django's
settings, which are made from the values here.
"""
