"""What the metrics of every process begin with."""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


def process_registry() -> CollectorRegistry:
    """Return a registry with `promgithub_build_info` and the usual metrics of a Python process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Info("promgithub_build", "The release that is running.", registry=registry)
    build.info({"version": version("promgithub"), "python": platform.python_version()})
    return registry
