"""Sessions on a database server: PostgreSQL and Redis.

`ServerStore` gathers requests into batches, `decisions` works each batch out on a `Draft`, and a `Database` reads and
writes it. So the two servers differ in how they keep heads and turns, and in nothing else.
"""
