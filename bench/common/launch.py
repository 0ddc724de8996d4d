"""Starts a command and reports what it took: python launch.py OUTPUT COMMAND...

A process of its own because by the kernel's accounting a child's peak memory begins with that of
the process that starts it: a starter with large texts in memory would hide what small stages take.
So this one imports next to nothing.
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
    # Linux counts kibibytes.
    cpu = usage.ru_utime + usage.ru_stime
    print(os.waitstatus_to_exitcode(status), wall, cpu, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
