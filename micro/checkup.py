"""What `micro doctor` looks at: versions, devices, bundles, a screen, and one second of real work."""

import importlib.util
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from micro import bundle, trial
from micro.errors import MicroError

LIBRARIES = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "scikit-image",
    "tifffile",
    "opencv-python-headless",
    "onnxruntime",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is fine, what was seen, and what to do about it."""

    what: str
    fine: bool
    says: str
    remedy: str = ""


def examine() -> tuple[Finding, ...]:
    """Return all findings, each made on its own: one fault does not hide the others."""
    return tuple(look() for look in (_python, _libraries, _device, _bundles, _self_test, _screen))


def _python() -> Finding:
    fine = sys.version_info >= (3, 11)
    says = f"micro {version('micro')}, Python {platform.python_version()} on {platform.platform()}"
    return Finding("versions", fine, says, "" if fine else "Install Python 3.11 or newer.")


def _libraries() -> Finding:
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("libraries", False, f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("libraries", True, ", ".join(found))


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding(
            "device", True, ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
        )
    if torch.backends.mps.is_available():
        return Finding("device", True, "Apple GPU (mps)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    built_for = f"; torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else ""
    remedy = "An NVIDIA card is used once its driver is installed." if built_for else ""
    return Finding("device", True, f"CPU, {cores} cores, {torch.get_num_threads()} threads{built_for}", remedy)


def _bundles() -> Finding:
    names = bundle.installed()
    if not names:
        places = ", ".join(str(place) for place in bundle.places())
        return Finding("bundles", False, f"none in {places}", "Install micro again, or set MICRO_BUNDLES.")
    return Finding("bundles", True, ", ".join(names))


def _self_test() -> Finding:
    began = time.perf_counter()
    for name in bundle.installed():
        try:
            says = trial.prove(bundle.load(name), "auto")
        except MicroError as fault:
            return Finding("self-test", False, str(fault), "Install micro again; `micro check` tries every bundle.")
        return Finding("self-test", True, f"{name}: {says}, {time.perf_counter() - began:.1f} s")
    return Finding("self-test", True, "no bundle to try")


def _screen() -> Finding:
    """Say whether napari could open a window; the command line works without."""
    if importlib.util.find_spec("napari") is None:
        return Finding(
            "napari", True, "not installed; the command line needs none", 'For the plugin: pip install "micro[napari]"'
        )
    qt = next((name for name in ("PyQt6", "PySide6") if importlib.util.find_spec(name)), None)
    if qt is None:
        return Finding("napari", False, f"napari {version('napari')} without Qt", "pip install PyQt6, or PySide6")
    here = f"napari {version('napari')}, {qt}"
    display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if display:
        return Finding("napari", True, f"{here}, a display")
    return Finding("napari", True, f"{here}, no display", "On a server use xvfb-run, or the command line.")
