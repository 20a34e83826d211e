"""Benchmarks: real processes and servers on this machine, each figure beside its ceiling in the same run.

`measurements` says what there is; each of its modules measures one thing. `stage` is where they play: private servers,
queues, databases, and the load, which is a process of its own (`sender`) whose CPU time counts for nobody.
"""
