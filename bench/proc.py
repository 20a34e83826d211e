"""Statistics of a process from Linux (proc(5))."""

import asyncio
import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.05


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in user and kernel mode, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def tree_cpu_seconds(root: int) -> float:
    """Return the CPU time of a process and of all its children, including those that have ended."""
    used, children = {}, defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        pid = int(stat.parent.name)
        used[pid] = sum(map(int, fields[11:15])) / _TICKS
        children[int(fields[1])].append(pid)
    tree = [root]
    for pid in tree:
        tree += children[pid]
    return sum(used.get(pid, 0.0) for pid in tree)


def peak_megabytes(pid: int) -> float:
    """Return the maximum resident memory of a process so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@dataclass(slots=True)
class CpuRecord:
    """The CPU time of some processes over a period."""

    times: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    def between(self, begin: float, end: float) -> float:
        """Return the CPU seconds between two times (Unix seconds)."""
        return self._at(end) - self._at(begin)

    def _at(self, moment: float) -> float:
        return self.used[min(bisect_left(self.times, moment), len(self.times) - 1)]


@asynccontextmanager
async def recorded_cpu(*pids: int) -> AsyncIterator[CpuRecord]:
    """Record the CPU time of processes while the context lasts."""
    record = CpuRecord()

    async def sample() -> None:
        while True:
            record.times.append(time.time())
            record.used.append(sum(map(cpu_seconds, pids)))
            await asyncio.sleep(_SAMPLE_SECONDS)

    sampling = asyncio.create_task(sample())
    try:
        yield record
        await asyncio.sleep(2 * _SAMPLE_SECONDS)
    finally:
        sampling.cancel()
