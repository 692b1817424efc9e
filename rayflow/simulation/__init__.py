"""The policies of production on a virtual clock, with modelled replicas and modelled or recorded load.

Nothing here decides anything: pools, lines, balancers, ejection, limits, breakers and scaling are the very objects that
routers and the coordinator run. What is modelled is the world around them: when requests come, how long a replica
takes, when it is slow, fails, starts and stops.
"""
