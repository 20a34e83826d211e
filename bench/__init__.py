"""Benchmarks with real processes and servers on this machine. Each result is compared with its ceiling in the same run.

`measurements` lists the measurements; each of its modules measures one thing. `stage` provides private servers, queues,
databases, and the load generator. The load generator (`sender`) is a separate process, whose CPU time is not counted.
"""
