"""The gateway's own pages in the admin: views, routes and rights.

One file for each page: `dashboard`, `requests`, `errors`, `export`, `needed_prices` (models without a price),
`spending` (a folder: the page *Usage*), `saved_views` (a folder: names for filters); `urls` has their routes,
`navigation` the side bar, `base_url` the gateway's own address in links and commands. Rights: `access` (who may see the
pages, and a call's content), `admin_base` (by which columns a list may be filtered, and that no form undoes what
somebody else has changed). For the audit log: `audit_words` (describes a change, with the values before and after),
`body_views` (records who has looked at the content of a call).

`usage.page_data` reads the content of the pages.
"""
