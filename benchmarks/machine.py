"""What a figure was measured on."""

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy")
PEER_PACKAGES = ("torch", "easyfsl", "numpy")


def machine(peers: str | None) -> dict[str, Any]:
    """Processor, cores, memory in GB, load at the start, and versions of what is compared."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(_memory(), 1),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "peers": _peer_versions(peers) if peers else {},
    }


def in_words(of: dict[str, Any]) -> str:
    """A line for a table's foot."""
    versions = ", ".join(f"{name} {found}" for name, found in of["versions"].items())
    peers = ", ".join(f"{name} {found}" for name, found in of["peers"].items())
    parts = [
        f"{of['processor']}, {of['cores']} cores, {of['memory_gb']} GB, load {of['load']} at the start",
        f"{of['system']}, Python {of['python']}, {versions}",
        *([f"peers: {peers}"] if peers else []),
    ]
    return "; ".join(parts)


def _processor() -> str:
    """The model's name, with family, model and stepping where the name alone leaves the generation open."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = fields.get("model name") or platform.machine()
    numbers = [fields[key] for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} (family/model/stepping {'/'.join(numbers)})" if len(numbers) == 3 else name


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return float("nan")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _peer_versions(python: str) -> dict[str, str]:
    code = (
        "import json, importlib.metadata as m\n"
        f"names = {PEER_PACKAGES!r}\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}\n"
        "print(json.dumps({n: found[n] for n in names if n in found}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}
