import pytest
import torch

from micro import networks
from micro.card import NetworkSpec
from micro.errors import BadSetting


def unet(encoder_name="resnet18", levels=4, in_channels=1, outputs=("inside", "depth")):
    widths = (32, 24, 16, 16, 8)[-levels:]
    return NetworkSpec(
        kind="unet",
        encoder_name=encoder_name,
        in_channels=in_channels,
        outputs=outputs,
        decoder_channels=widths,
    )


def classifier(encoder_name="mobilenet_v3_small", in_channels=1, outputs=("a", "b", "c")):
    return NetworkSpec(
        kind="classifier", encoder_name=encoder_name, in_channels=in_channels, outputs=outputs, input_px=64
    )


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_segmenter_gives_one_map_an_output_on_the_grid_of_its_input(in_channels):
    network = networks.build(unet(in_channels=in_channels)).eval()
    assert network(torch.zeros(2, in_channels, 64, 96)).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", networks.CLASSIFIERS)
def test_a_classifier_gives_one_logit_a_class(name, in_channels):
    network = networks.build(classifier(name, in_channels)).eval()
    assert network(torch.zeros(2, in_channels, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("spec", [unet(), classifier()], ids=["unet", "classifier"])
def test_the_same_seed_builds_the_same_weights(spec):
    torch.manual_seed(5)
    first = networks.build(spec).state_dict()
    torch.manual_seed(5)
    second = networks.build(spec).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_level_doubles_the_stride():
    assert [networks.stride(unet(levels=levels)) for levels in (3, 4, 5)] == [8, 16, 32]


def test_a_classifier_has_no_grid_to_keep_to():
    assert networks.stride(classifier()) == 1


@pytest.mark.parametrize("name", ["efficientnet-b0", "se_resnet50", "timm-mobilenetv3_large_100"])
def test_an_encoder_whose_answer_depends_on_the_tile_is_refused_with_the_reason(name):
    with pytest.raises(BadSetting, match=r"squeeze and excitation.*resnet18"):
        networks.build(unet(name))


@pytest.mark.parametrize("spec", [unet("resnet19"), classifier("resnet19")], ids=["unet", "classifier"])
def test_an_unknown_network_is_refused_with_the_names_there_are(spec):
    with pytest.raises(BadSetting, match=r"'resnet19'.*resnet18"):
        networks.build(spec)


def test_a_segmenter_of_two_levels_is_refused():
    with pytest.raises(BadSetting, match="3 to 5 levels"):
        networks.build(unet(levels=2))


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_segmenter_carries_no_weight_that_it_never_uses(name, levels):
    network = networks.build(unet(name, levels))
    network(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
