from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedrobust.errors import UserError
from fedrobust.learners.backbones import SmallCNN, _cells, backbone_names, build_backbone


def output(network: nn.Module, n: int, channels: int, *size: int) -> Tensor:
    """Return a network's output for random images, without training it."""
    pixels = torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.no_grad():
        made: Tensor = network.eval()(pixels)
    return made


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (64, 64), (28, 40), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_cnn_maps_images_to_vectors(channels: int, size: tuple[int, int]) -> None:
    vectors = output(SmallCNN(channels, 10), 3, channels, *size)
    assert vectors.shape == (3, 10) and bool(vectors.isfinite().all())


def test_small_cnn_ends_linear_so_features_have_both_signs() -> None:
    torch.manual_seed(0)
    vectors = output(SmallCNN(1, 32), 8, 1, 28, 28)
    assert (vectors < 0).any() and (vectors > 0).any()
    assert isinstance(list(SmallCNN(1, 32).modules())[-1], nn.Linear)


def test_small_cnn_keeps_no_running_statistics() -> None:
    assert not list(SmallCNN(3, 4).buffers())


def test_small_cnn_knows_where_a_feature_stands() -> None:
    torch.manual_seed(0)
    network = SmallCNN(1, 16).eval()
    left, right = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 28, 28)
    left[..., 10:18, 3:9] = 1
    right[..., 10:18, 19:25] = 1
    with torch.no_grad():
        assert (network(left) - network(right)).abs().max() > 0.01


def test_width_scales_every_layer() -> None:
    narrow, wide = (
        build_backbone("cnn(width=4)", 1, 7, (28, 28)),
        build_backbone("cnn(width=8)", 1, 7, (28, 28)),
    )
    convolutions = [[m.out_channels for m in n.modules() if isinstance(m, nn.Conv2d)] for n in (narrow, wide)]
    assert convolutions == [[4, 8, 16], [8, 16, 32]]
    assert output(narrow, 2, 1, 28, 28).shape == (2, 7)


@pytest.mark.parametrize(
    "spec", ["cnn(width=6)", "cnn(width=0)", "cnn(width=-4)", "cnn(width=8.0)", "cnn(depth=4)"]
)
def test_cnn_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        build_backbone(spec, 1, 4, (28, 28))


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown backbone 'reznet18'; did you mean 'resnet18'"):
        build_backbone("reznet18", 1, 4, (28, 28))


def test_torchvision_networks_take_no_options() -> None:
    with pytest.raises(UserError, match="write just resnet18"):
        build_backbone("resnet18(width=8)", 1, 4, (28, 28))


def test_the_list_holds_what_can_be_asked_for() -> None:
    names = backbone_names()
    assert {"cnn", "resnet18", "densenet121", "mobilenet_v3_small", "vit_b_16", "googlenet"} <= set(names)
    assert not any("rcnn" in name or "raft" in name for name in names)
    assert all(line and "\n" not in line for line in names.values())


GREY_28 = [
    "resnet18",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "googlenet",
    pytest.param("densenet121", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", GREY_28)
def test_torchvision_networks_take_small_grey_images(name: str) -> None:
    network = build_backbone(name, 1, 11, (28, 28))
    assert network.training
    vectors = output(network, 2, 1, 28, 28)
    assert vectors.shape == (2, 11) and bool(vectors.isfinite().all())


def test_googlenet_has_one_output_in_training_too() -> None:
    network = build_backbone("googlenet", 1, 5, (28, 28))
    assert isinstance(network(torch.zeros(2, 1, 28, 28)), Tensor)


@pytest.mark.slow
def test_vision_transformer_keeps_its_patches() -> None:
    network = build_backbone("vit_b_16", 1, 6, (32, 32))
    patches = network.conv_proj
    assert isinstance(patches, nn.Conv2d)
    assert (patches.in_channels, patches.kernel_size, patches.stride) == (1, (16, 16), (16, 16))
    assert output(network, 2, 1, 32, 32).shape == (2, 6)


@pytest.mark.parametrize("name", ["vit_b_16", "inception_v3"])
def test_images_that_a_network_cannot_take_are_a_users_error(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' cannot take 28x28 images .*--image-size"):
        build_backbone(name, 1, 4, (28, 28))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 64])
def test_small_images_are_halved_once_instead_of_twice(channels: int, side: int) -> None:
    network = build_backbone("resnet18", channels, 4, (side, side))
    assert isinstance(network.conv1, nn.Conv2d)
    first = network.conv1
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (
        channels,
        (3, 3),
        (2, 2),
        (1, 1),
    )
    assert first.bias is None
    assert isinstance(network.maxpool, nn.Identity)
    grids: list[tuple[int, ...]] = []
    network.layer1.register_forward_hook(lambda _, __, out: grids.append(tuple(out.shape[2:])))
    output(network, 1, channels, side, side)
    assert grids == [(side // 2, side // 2)]


def test_stem_that_halves_once_keeps_the_resolution_of_small_images() -> None:
    network = build_backbone("mobilenet_v3_small", 1, 4, (32, 32))
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert (first.kernel_size, first.stride) == ((3, 3), (1, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_larger_images_keep_the_published_stem(channels: int) -> None:
    network = build_backbone("resnet18", channels, 4, (128, 128))
    assert isinstance(network.conv1, nn.Conv2d)
    first = network.conv1
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (
        channels,
        (7, 7),
        (2, 2),
        (3, 3),
    )
    assert isinstance(network.maxpool, nn.MaxPool2d)


@pytest.mark.slow
def test_densenet_loses_its_first_pooling_on_small_images() -> None:
    small, large = (build_backbone("densenet121", 1, 4, (side, side)) for side in (32, 128))
    assert isinstance(small.get_submodule("features.pool0"), nn.Identity)
    assert isinstance(large.get_submodule("features.pool0"), nn.MaxPool2d)


def test_the_trial_image_leaves_no_trace() -> None:
    network = build_backbone("resnet18", 1, 4, (28, 28))
    for name, buffer in network.named_buffers():
        wanted = 1 if name.endswith("running_var") else 0
        assert bool((buffer == wanted).all()), name


@pytest.mark.parametrize("spec", ["cnn(width=4)", "mobilenet_v3_small"])
def test_weights_follow_from_torchs_seed(spec: str) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build_backbone(spec, 1, 4, (28, 28))
        made.append(torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize(("height", "width"), [(7, 7), (4, 4), (16, 5), (1, 3), (33, 18)])
def test_the_grid_averages_what_adaptive_pooling_does(height: int, width: int) -> None:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    high, wide = (_cells(length, 4, images.device).double() for length in (height, width))
    torch.testing.assert_close(high @ images @ wide.T, nn.AdaptiveAvgPool2d(4)(images), atol=1e-6, rtol=1e-6)
