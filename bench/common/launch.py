"""Runs a command and prints its exit code, wall seconds, CPU seconds and peak MiB.

python launch.py OUTPUT COMMAND...

A process of its own, with almost no imports: the kernel's accounting of a child's peak memory
starts with the memory of the process that forks it, so that a launcher with large texts in memory
would hide what a small stage uses.
"""

import os
import sys
import time


def main(output: str, command: list[str]) -> None:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - started
    cpu = usage.ru_utime + usage.ru_stime
    # ru_maxrss is in kibibytes on Linux.
    print(os.waitstatus_to_exitcode(status), wall, cpu, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
