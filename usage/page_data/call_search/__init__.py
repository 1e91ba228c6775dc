r"""The parts of the search for calls (`usage.page_data.search`): the walk through many rows, and words in bodies.

`index_scan` reads calls slice by slice through one index. `scan_merging` merges several such scans in the order of
time. `list_sums` adds up all calls of a list, beyond the page that is shown. `sorted_calls` finds those that took the
longest, cost the most, or have the most output tokens.

Words in prompts and answers: `searched_words` splits the typed text into words and phrases. `body_texts` converts a
stored body to readable text, without escapes. `hit_excerpts` finds the words around a hit. `word_search` searches the
bodies of the calls that a walk yields; only this module has queries about words.

A body is stored as it was sent, mostly as JSON: `café` may be `caf\u00e9` there, and a line may end in `\n`, two
characters. So PostgreSQL only chooses bodies that may match, by letters and digits that are never escaped in JSON
(`SearchedWord.needles`). Python then undoes the escapes, and decides.
"""
