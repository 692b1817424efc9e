"""Datasets in, runs through the same routers, results out.

The way of one row: a reader yields what a file holds (`inputs`), `selection` says whether it is wanted, `left` whether
an earlier start has finished it, `tasks` which messages to send; `run` keeps a bounded number in flight (`pacing`),
`runner` runs the turns of one, and `ranges` keeps its row of the results until all of its range are there and become a
part of them (`parts`). `spec` is what a job is, `status` how far, `directory` where its files lie (docs/batch.md).
"""
