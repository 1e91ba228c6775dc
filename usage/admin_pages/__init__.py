"""The admin's pages: views, routes and rights.

One file for each page: `dashboard`, `requests`, `errors`, `export`, `needed_prices` (models without a price); `urls`
has their routes, `navigation` the side bar, `base_url` the gateway's own address in links and commands. Rights:
`access` (who sees the pages, and a call's content), `grants` (nobody grants a right that they lack), `accounts_admin`
(users and groups), `admin_base` (by which columns a list may be filtered).

What a page shows is read by `usage.page_data`.
"""
