"""The metrics that every process has."""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from shared.descriptors import EXHAUSTED


def process_registry() -> CollectorRegistry:
    """Return a registry with `promgithub_build_info` and the usual metrics of a Python process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(EXHAUSTED)
    build = Info("promgithub_build", "Version of promgithub and of Python.", registry=registry)
    build.info({"version": version("promgithub"), "python": platform.python_version()})
    return registry
