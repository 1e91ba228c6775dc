"""Reads the content of the admin's pages from the tables, in bounded time; has no HTML and no HTTP.

`dashboard` (a folder: the dashboard of all calls or of one key), `search` and `filters` (the list of requests;
`call_search`, a folder, walks through its calls and finds words in prompts and answers; `list_pages` links its
pages), `call_page` and `reproduction` (one request, and the command that makes it again), `conversations` (a folder:
what was said in it), `spending` (a folder: the page *Usage*), `errors` (a folder: the errors page), `exports` (CSV
and JSON), `newest_calls` (the log), `key_summary` (budgets and last use of keys). `comparison` chooses the times of two
periods that are compared, and `formatting` writes numbers with their units.

May import the folders before it in the order of `usage.__init__`, but not `usage.admin_pages`.
"""
