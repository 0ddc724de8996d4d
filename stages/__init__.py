"""The stages: small scripts, one per stage of dvc.yaml, run as `python -m stages.NAME`."""

import signal

from lib.run.stage import exit_with_dvc

# Here, before a stage's own imports: TensorFlow takes seconds, and a dvc that is killed meanwhile
# would leave an orphan behind.
exit_with_dvc(signal.SIGTERM)
