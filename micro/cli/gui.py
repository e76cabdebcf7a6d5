"""`micro gui`: the docks in napari."""

from pathlib import Path

from micro.cli.app import app


@app.command
def gui(*images: Path) -> int:
    """Open napari with the Segment dock, and images in it.

    Parameters
    ----------
    images
        Image files to open, with their pixel size.
    """
    import subprocess
    import sys
    from importlib.util import find_spec

    from micro.errors import MicroError

    if find_spec("napari") is None:
        raise MicroError('napari is not installed. pip install "micro[napari]" and a Qt binding: PyQt6, or PySide6.')
    for image in images:
        if not image.is_file():
            raise MicroError(f"{image}: there is no such file. An image is a TIFF, PNG, JPEG, BMP or WebP.")
    # a process of its own: on some systems torch, which this one may need, does not load after Qt
    opened = [*map(str, images), "--plugin", "micro"] if images else []
    return subprocess.call([sys.executable, "-m", "napari", *opened, "--with", "micro", "Segment"])
