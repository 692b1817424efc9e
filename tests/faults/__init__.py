"""The fault harness: a load of live sessions, faults injected into it, and a checker of what was promised.

`python -m tests.faults` from the project's root runs the long set; `tests/acceptance/test_faults.py` a short one.
Nothing in here knows the insides of the system: it is driven over HTTP, watched through the coordinator's status, and
hurt by signals, by a faulty upstream and by a proxy that damages connections.
"""
