"""Reports: tables, charts and figures of scores and registered pairs, and an HTML page of them."""
