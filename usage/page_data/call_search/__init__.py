r"""The parts of the search for calls (`usage.page_data.search`): the walk through many rows, and words in bodies.

`index_scan` (reads calls slice by slice along one index) and `walk` (several such scans, merged in the order of time).

Words in prompts and answers: `searched_words` (what somebody has typed as words and phrases), `body_texts` (a stored
body as people read it, without its escapes), `excerpts` (the words around a hit) and `word_search` (goes through the
bodies of the calls that a walk yields, with the only queries about words).

A body is stored as it was sent, mostly as JSON: `café` may be `caf\u00e9` there, and a line may end in `\n`, two
characters. PostgreSQL therefore only chooses bodies that may match, by letters and digits that no writer of JSON
escapes (`SearchedWord.needles`); Python then undoes the escapes and decides.
"""
