"""Whether bundles decide as before in other runtimes: python -m tests.benchmarks.export WORK.

Each bundle that answers images leaves as ONNX and as TorchScript, and `micro models export` compares both with the
engine on a hundred parts of photographs, turned, mirrored, darker and brighter. The bar: the same decisions on all of
them, and no probability further apart than 1e-3. What was compared lies in WORK/BUNDLE/FORM/parity.json, and is not
done again.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from micro import cli, export

FORMS = "onnx", "torchscript"
# The edges of sheets were never photographed; frames of the same kind of line are answered as well.
PHOTOGRAPHS = {
    "flakes-thin": "flakes/maskterial/GrapheneH/images",
    "grains-iron": "grains/pure-iron-serial/images",
    "grains-metal": "grains/pure-iron-serial/images",
    "phases-superalloy": "grains/nasa-superalloy/val/images",
    "sheet-edge-crack": "defects/xsdd/images",
    "sheet-steel": "defects/xsdd/images",
    "spindle-pitting": "defects/bsdata/images",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path, help="folder for the exported networks and what was compared")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MICRO_DATA", "../shared/data")))
    parser.add_argument("--views", type=int, default=100)
    asked = parser.parse_args(arguments)
    lines = ["bundle             form         images  other decisions  largest difference of a probability"]
    for name, folder in PHOTOGRAPHS.items():
        for form in FORMS:
            place = asked.work / name / form
            if not (place / export.PARITY).is_file():
                images = str(asked.data / folder)
                cli.run(
                    ["models", "export", name, images, "--views", str(asked.views), "--to", form, "--out", str(place)]
                )
            found = json.loads((place / export.PARITY).read_text(encoding="utf-8"))
            others, apart = len(found["other_decisions"]), found["other_probability"]
            lines.append(f"{name:17}  {form:11}  {found['images']:6d}  {others:15d}  {apart:.1e}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
