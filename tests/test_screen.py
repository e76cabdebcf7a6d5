import json

from micro.cli.screen import watched
from micro.regions import Progress
from micro.training import Epoch


def test_progress_as_json_is_one_line_a_step_with_its_numbers_and_words(capsys):
    def steps():
        yield Progress(1, 2, "tile 1 of 2")
        yield Epoch("final", 50, 100, 0.25, 3.0)
        return "made"

    assert watched(steps(), "steps", "json") == "made"
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"done": 1, "total": 2, "note": "tile 1 of 2"}
    assert second == {
        "part": "final",
        "done": 50,
        "total": 100,
        "loss": 0.25,
        "seconds": 3.0,
        "note": "final: loss 0.2500, 50 steps in 3 s, 3 s left",
    }
