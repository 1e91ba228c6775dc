"""The page *Usage*, for whoever has to account for money: `usage_page` has its views, `usage_links` leads to it.

What the page shows is read by `usage.page_data.spending`. Imports the modules of `usage.admin_pages`.
"""
