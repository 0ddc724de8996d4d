"""Stubs for the modules that no output depends on (lib.run.code_digest): the least that works.

Each is code that is appended to its module.
"""

STUBS = {
    "lib/report/page.py": "def write_page(): pass\n",
    "lib/run/atomic.py": """
@contextmanager
def new_file(target, synchronise=True):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    yield target

@contextmanager
def new_directory(target, replace=True):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    yield target

def write_text(target, text):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(text.encode())
""",
    "lib/run/attempts.py": "",
    "lib/run/contracts.py": """
check_metrics = lambda *_: None
read_needed = lambda results, stage: read_object(results / stage / _METRICS)
""",
    "lib/run/cost.py": "Cost.write = Cost.resume = lambda *_: None\n",
    "lib/run/dask_pool.py": "def connect(*_, **__): raise AssertionError\n",
    "lib/run/dask_task.py": "def run_task(*_, **__): raise AssertionError\n",
    "lib/run/errors.py": "about = lambda path: __import__('contextlib').nullcontext()\n",
    "lib/run/pool.py": "shard_map = lambda function, tasks, *_: list(map(function, tasks))\n",
    "lib/run/progress.py": "Progress.advance = Progress.skip = lambda *_, **__: None\n",
    "lib/run/stage.py": """
def run_stage(main, afterwards=None, before=None):
    parameters = inspect.signature(main).parameters.values()
    main(*(dvc_item() if each.annotation is str else each.default for each in parameters))
""",
    "lib/run/validation.py": "def first_problem(*_): return 'wrong'\n",
    "lib/train/base_models.py": "check_base_models = lambda: None\n",
    "lib/train/logging/event_files.py": "EventFiles.__init__ = EventFiles.log = lambda *_: None\n",
    "lib/train/logging/throughput.py": """
Throughput.__init__ = Throughput.resume = lambda *_: None
Throughput.log = lambda *_: ""
""",
    "lib/train/preemption.py": """
stop_on_signal = contextmanager(lambda: (yield StopRequest()))
quick_exit = contextmanager(lambda *_: (yield))
""",
    "lib/train/saving/remote_copies.py": "remote_copies = lambda *_: None\n",
    "lib/train/saving/storage.py": "",
}
