"""Reads the content of a dashboard, of all calls or of one key.

`dashboard_content` is the whole dashboard; `dashboard_reader` reads its numbers from the sums, `dashboard_tiles` makes
its tiles and the states of the server's parts, `dashboard_charts` its charts.
"""
