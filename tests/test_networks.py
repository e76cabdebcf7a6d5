import pytest
import torch
from torch import nn

from micro import networks
from micro.card import NetworkSpec
from micro.errors import BadSetting
from micro.networks import allocator, reach
from micro.networks.fast import accelerate, steady
from micro.networks.reach import Reach, measure_reach


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


def test_bfloat16_is_for_processors_and_networks_that_are_fast_in_it(monkeypatch):
    specs = {"unet": unet("mobilenet_v2"), "dense": classifier("resnet18"), "channelwise": classifier()}
    for able in ({}, {"amx_bf16": False}, {"amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        found = {name: networks.learns_sooner_in_bfloat16(spec) for name, spec in specs.items()}
        is_able = bool(able.get("amx_bf16"))
        assert found == {"unet": is_able, "dense": is_able, "channelwise": False}


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_segmenter_gives_one_map_an_output_on_the_grid_of_its_input(in_channels):
    network = networks.build(unet(in_channels=in_channels)).eval()
    assert network(torch.zeros(2, in_channels, 64, 96)).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("name", networks.CLASSIFIERS)
def test_a_classifier_of_grey_frames_gives_one_logit_a_class(name):
    network = networks.build(classifier(name, in_channels=1)).eval()
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 3)


def test_lenet5_is_the_small_network_that_it_was_and_joins_alexnet_by_its_features():
    count = sum(
        value.numel() for value in networks.build(classifier("lenet5", outputs=tuple("0123456789"))).parameters()
    )
    assert count == 61_706
    joint = networks.build(classifier("lenet-alexnet"))
    assert joint.head.in_features == 84 + 4096
    with pytest.raises(BadSetting, match="lenet5"):
        networks.imagenet(classifier("lenet5"))


@pytest.mark.parametrize("spec", [unet(), classifier()], ids=["unet", "classifier"])
def test_the_same_seed_builds_the_same_weights(spec):
    torch.manual_seed(5)
    first = networks.build(spec).state_dict()
    torch.manual_seed(5)
    second = networks.build(spec).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_level_doubles_the_stride():
    assert [unet(levels=levels).stride_px for levels in (3, 4, 5)] == [8, 16, 32]


def test_a_classifier_has_no_grid_to_keep_to():
    assert classifier().stride_px == 1


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


def trained(spec, edge_px=64):
    """A network whose batch norms hold the statistics of its inputs, as after training."""
    torch.manual_seed(7)
    network = networks.build(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        for _ in range(2):
            network(drawn_input(4, spec.in_channels, edge_px))
    return network.eval()


def drawn_input(count, channels, edge_px):
    """Noise on flat patches: smooth places, edges and texture."""
    patches = (
        torch.randn(count, channels, edge_px // 16, edge_px // 16).repeat_interleave(16, 2).repeat_interleave(16, 3)
    )
    return patches + 0.3 * torch.randn(count, channels, edge_px, edge_px)


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("name", networks.SEGMENTERS)
def test_an_accelerated_segmenter_computes_the_same_up_to_the_border(name, levels):
    network = trained(unet(name, levels)).double()
    tile = drawn_input(2, 1, 64)[..., :32].double()
    with torch.inference_mode():
        expected = network(tile)
        assert expected.std() > 0.3
        assert torch.allclose(accelerate(network)(tile), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", networks.CLASSIFIERS)
def test_an_accelerated_classifier_computes_the_same(name):
    network = trained(classifier(name, in_channels=3)).double()
    frames = drawn_input(3, 3, 64).double()
    with torch.inference_mode():
        assert torch.allclose(accelerate(network)(frames), network(frames), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", networks.CLASSIFIERS)
def test_a_steady_classifier_answers_to_the_last_bit_the_same_beside_any_frames_and_with_any_threads(name):
    fast = accelerate(networks.build(classifier(name)))
    network = steady(fast)
    frames = drawn_input(17, 1, 64).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        together = network(frames)
        assert torch.allclose(together, fast(frames), rtol=1e-4, atol=1e-6)
        try:
            for count, parts in ((1, [1, 16]), (1, [2, 15]), (2, [1, 16])):
                torch.set_num_threads(count)
                assert torch.equal(torch.cat([network(part) for part in frames.split(parts)]), together)
        finally:
            torch.set_num_threads(threads)


@pytest.mark.parametrize("levels", [4, 5])
def test_in_single_precision_probabilities_are_equal_to_a_hundred_thousandth(levels):
    network = trained(unet(levels=levels), edge_px=128)
    tile = drawn_input(1, 1, 256)
    with torch.inference_mode():
        difference = accelerate(network)(tile).sigmoid() - network(tile).sigmoid()
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("spec", [unet(), classifier()], ids=["unet", "classifier"])
def test_an_accelerated_network_has_no_batch_norm_and_leaves_the_original_as_it_was(spec):
    network = trained(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = accelerate(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_an_accelerated_segmenter_takes_no_gradients():
    assert not any(weight.requires_grad for weight in accelerate(networks.build(unet())).parameters())


def test_keeping_pages_can_be_asked_for_twice():
    assert allocator.keep_pages() is allocator.keep_pages()


def test_elsewhere_than_on_linux_no_page_is_kept(monkeypatch):
    monkeypatch.setattr(allocator.platform, "system", lambda: "Darwin")
    assert allocator.keep_pages() is False


def test_the_reach_is_the_one_that_gradients_give():
    spec = unet(levels=3)
    network = networks.build(spec).eval()
    for weight in network.parameters():
        weight.data.abs_()  # nothing cancels
    network.encoder.maxpool = nn.AvgPool2d(3, stride=2, padding=1)  # a maximum hands its gradient to one pixel only
    tile = torch.ones(1, 1, 256, 8, requires_grad=True)
    above, below = [], []
    for row in range(128, 136):
        (gradient,) = torch.autograd.grad(network(tile)[0, :, row].sum(), tile)
        seen = gradient.amax(dim=(0, 1, 3)).nonzero()
        above.append(row - int(seen.min()))
        below.append(int(seen.max()) - row)
    assert measure_reach(spec) == Reach(max(above), max(below))


def test_one_level_less_halves_the_reach():
    three, four = (measure_reach(unet("mobilenet_v2", levels)) for levels in (3, 4))
    assert three.above_px + three.below_px < (four.above_px + four.below_px) / 2


def test_nothing_beyond_the_reach_changes_an_output_pixel():
    spec = unet(levels=3)
    network, far = trained(spec), measure_reach(spec)
    tile = drawn_input(1, 1, 256)
    changed = tile.clone()
    row = 128
    changed[..., : row - far.above_px, :] = 0
    changed[..., row + far.below_px + 1 :, :] = 0
    with torch.inference_mode():
        difference = (network(tile) - network(changed)).abs().amax(dim=(0, 1, 3))
    assert difference[row] < 1e-5
    assert difference.max() > 0.01


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(reach, "KEEP_PX", 64)
    monkeypatch.setattr(reach, "WIDEST_PX", 80)
    monkeypatch.setattr(reach, "EDGE_PX", 64 + 2 * 80)


def test_the_chosen_halo_leaves_no_seam_and_the_next_smaller_one_does(small_tiles):
    spec = unet(levels=3)
    network, image = accelerate(trained(spec)), drawn_input(1, 1, 128)
    halo_px = reach.choose_halo(network, spec, image, tolerance=1e-3)
    assert 0 < halo_px <= 72
    assert halo_px % spec.stride_px == 0
    assert reach.share_differing(network, spec, image, halo_px) < 1e-3
    assert reach.share_differing(network, spec, image, halo_px - spec.stride_px) >= 1e-3


def test_a_halo_of_the_whole_reach_leaves_no_difference(small_tiles):
    spec = unet(levels=3)
    assert reach.share_differing(accelerate(trained(spec)), spec, drawn_input(1, 1, 224), halo_px=72) == 0


def test_a_network_that_sees_only_its_own_pixel_needs_no_halo(small_tiles):
    assert reach.choose_halo(nn.Conv2d(1, 2, 1), unet(levels=3), torch.randn(1, 1, 64, 300)) == 0
