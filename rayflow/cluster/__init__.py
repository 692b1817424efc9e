"""Processes: the Ray backend (the only importer of ray), the in-process backend, and the fabric between them."""
