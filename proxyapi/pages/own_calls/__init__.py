"""The single calls of a key in "My usage": a list with filters, the page of each call, and a download.

`viewers` says whose calls somebody may see, `call_pages` has the pages.
"""
