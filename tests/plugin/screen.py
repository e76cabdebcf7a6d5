"""Imported first by every test of the docks: skips it where there is no napari, or nothing to show it on."""

import os
import sys

import pytest

COMMAND = "xvfb-run -a python -m pytest -p napari -p pytest-qt tests/plugin"

if "napari.utils._testsupport" not in sys.modules:
    pytest.skip(f"the docks are tested by `{COMMAND}`, with napari and a Qt binding", allow_module_level=True)
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    pytest.skip(f"no screen; use `{COMMAND}`", allow_module_level=True)
