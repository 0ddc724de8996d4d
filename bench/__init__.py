"""Measurements of the data stages: against other tools, of memory, of workers.

`make bench` runs them; nothing here is part of the pipeline. docs/bench.md tells how to read them.
"""
