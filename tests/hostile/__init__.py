"""SQL that means harm, sent over HTTP to a log that holds more than one tenant's rows.

`python -m tests.hostile` prints what became of it and how well the limits held; `tests/unit/api/test_hostile_sql.py`
asserts it.
"""
