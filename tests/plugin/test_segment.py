import screen  # noqa: F401  first: skips without napari


def test_a_sample_is_segmented_in_two_clicks(viewer, until):
    viewer.open_sample("micro", "grains")
    _, segment = viewer.window.add_plugin_dock_widget("micro", "Segment")
    segment.cards.choose("grains-iron")
    segment.run.click()
    until(lambda: not segment.is_running)
    assert len(viewer.layers) == 2
