"""How much memory there is."""

from pathlib import Path


def available() -> int | None:
    """Bytes that this program can still take, as Linux and its control group tell; None on other systems."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return None
    room = 1024 * int(lines["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["file"]
    except (OSError, ValueError):  # no control group, or one without a limit
        return room
    return min(room, limit - used + int(files))  # files that are kept make room where it is needed
