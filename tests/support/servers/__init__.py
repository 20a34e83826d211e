"""The real servers that the tests talk to: which ones are used, and private ones that a test may kill.

`discovery` decides between servers given by URL, containers and private instances; `rabbitmq` and `postgres` start the
private ones from installed binaries, on loopback and free ports, with all their files in a temporary directory.
"""
