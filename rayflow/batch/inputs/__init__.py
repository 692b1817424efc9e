"""What a job reads: rows, numbered across all its files, and what each of them says.

`places` finds the files, a reader for each format (`jsonl`, `documents`, `delimited`, `parquet`) turns a file into
entries, `source` numbers them, and `shapes` brings them to one shape. Each row of the input is exactly one row from
here on: what is wrong with it is said in its place.
"""
