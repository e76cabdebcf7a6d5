import os
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: threads of one worker would wait for those of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# a busy machine is no fault of the code, and a default run is short
settings.register_profile("micro", deadline=None, max_examples=50)
settings.load_profile("micro")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images, which is no part of the project."""
    named = os.environ.get("MICRO_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set MICRO_DATA to their folder")
    return folder
