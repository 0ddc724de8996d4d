"""Names of the project's recipes."""

from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
# Recipes of published models; the other two are the project's own.
PUBLISHED = [name for name in NAMES if name not in ("demo", "smoke")]
