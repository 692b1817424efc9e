"""Recorded runs through a changed workflow: what would be different, run by run, in SQL.

The workflow is not simulated. It runs in this process on the routers, aggregators and policies that serve it; what is
replaced is what lies outside: models answer from the record (`models`), sessions are in memory and hold what was said
then (`replay`), and nothing is limited, cached, remembered or told to anybody (`isolation`).
"""
