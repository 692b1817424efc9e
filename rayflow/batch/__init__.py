"""Datasets in, runs through the same routers, results out.

The way of one item: a reader yields what a file holds (`readers`), `items` gives it a number, an id and turns,
`engine` keeps a bounded number of items in flight, `replay` runs the turns of one item in a session of its own,
`journal` makes its row durable, and `results` puts all rows in order at the end. `folder` says which files a job leaves
(docs/batch.md).
"""
