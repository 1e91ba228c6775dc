"""The page *Usage*, for people who account for money: `usage_page` has its views, `usage_links` the links to it.

`usage.page_data.spending` reads the page's content. This folder may import the modules of `usage.admin_pages`.
"""
