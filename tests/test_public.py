import subprocess
import sys
from pathlib import Path

import pytest

import micro


def test_the_public_names_are_these():
    assert micro.__all__ == [
        "Engine",
        "MicroError",
        "Micrograph",
        "Prediction",
        "Progress",
        "Recipe",
        "Regions",
        "read",
    ]
    for name in micro.__all__:
        assert getattr(micro, name).__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="predict_everything"):
        _ = micro.predict_everything


@pytest.mark.parametrize(
    "module", ["micro", "micro.cli", "micro.line.run", "micro.formats", "micro.tasks.grains", "micro.bundle"]
)
def test_torch_is_not_loaded_by_what_does_not_need_it(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_screen_is_loaded_by_the_engine():
    code = "import sys, micro.engine, micro.training; assert not {'qtpy', 'napari', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_types_of_the_package_are_there_for_those_who_check_theirs():
    assert (Path(micro.__file__).parent / "py.typed").is_file()
