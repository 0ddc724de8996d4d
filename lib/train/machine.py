"""What the bits of the trained weights depend on besides the run: processor, devices, TensorFlow.

Measured: the same on every machine with one type of processor, whatever its number of cores; other
last digits, and after thousands of steps other weights, with other vector instructions.
"""

import platform
import re
from pathlib import Path

from lib.run import tf

# Instructions for vectors and matrices, by the beginnings of their names on Linux.
_VECTOR = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "bf16", "i8mm")


def machine(strategy: tf.distribute.Strategy) -> dict[str, str]:
    """Processor, devices and version of TensorFlow, as text to compare and to show."""
    return {
        "processor": processor(Path("/proc/cpuinfo")),
        "devices": f"{strategy.num_replicas_in_sync} x {_device()}",
        "tensorflow": tf.version.VERSION,
    }


def processor(cpuinfo: Path) -> str:
    """Model and vector instructions, such as `AMD EPYC 7B13 (avx avx2 f16c fma sse4_1 sse4_2)`."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    vector = sorted(
        name for name in (flags[1].split() if flags else ()) if name.startswith(_VECTOR)
    )
    return f"{model[1].strip() if model else platform.machine()} ({' '.join(vector)})"


def _device() -> str:
    """The kind of device that trains."""
    for kind in ("TPU", "GPU"):
        if devices := tf.config.list_physical_devices(kind):
            details = tf.config.experimental.get_device_details(devices[0])
            return str(details.get("device_name", kind))
    return "CPU"
