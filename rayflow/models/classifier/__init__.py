"""Classifiers that learn from a workflow's examples whose a message is.

Learning and scoring are apart. `training` needs scikit-learn and runs in a process of its own; what it leaves is an
`artefact` that plain Python reads and `linear` scores with, so that a router loads neither scikit-learn nor numpy.
`nearest` needs no training at all.
"""
