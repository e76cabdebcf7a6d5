import pytest

from micro.errors import BadSetting
from micro.recipe import Recipe


def test_a_recipe_comes_back_from_yaml_as_it_was(tmp_path):
    recipe = Recipe(
        model="grains-iron", pixel_size_um=0.25, settings={"min_area_px": 40, "twins": "keep"}, review_below=0.8
    )
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    "text",
    [
        "model: x\ncolour: red\n",
        "- 1\n",
        "model: [",
        "",
        "model: x\npixel_size_um: -1\n",
        "model: x\npixel_size_um: on\n",
        "model: x\nreview_below: 0.9\nreview_below: 0.5\n",
        "model: x\nsettings: {min_area_px: 40, min_area_px: 4}\n",
        "model: x\npixel_size_um: .inf\n",
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"mine\.yaml"):
        Recipe.load(path)


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(BadSetting, match="not a recipe"):
        Recipe.load(tmp_path / "none.yaml")


def test_what_is_wrong_with_a_recipe_is_said_in_one_line(tmp_path):
    path = tmp_path / "line.yaml"
    path.write_text("model: sheet-steel\npixel_size_um: -1\nsettings: {min_area_px: 3}\nlanes: 2\n")
    with pytest.raises(BadSetting) as refused:
        Recipe.load(path)
    said = "pixel_size_um: Input should be greater than 0; lanes: Extra inputs are not permitted"
    assert str(refused.value) == f"{path}: not a recipe. {said}"


@pytest.mark.parametrize("temperature", [".inf", ".nan", "0", "1.0e-320"])
def test_a_temperature_by_which_no_logit_stays_a_number_is_refused(tmp_path, temperature):
    limits = f"{{temperature: {temperature}, ok_classes: [fine], ok_below: 0.1, ng_from: 0.9}}"
    (tmp_path / "r.yaml").write_text(f"model: toy\ndecision: {limits}\n")
    with pytest.raises(BadSetting, match=r"decision\.temperature"):
        Recipe.load(tmp_path / "r.yaml")
