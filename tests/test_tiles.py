import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro.tiles import Tiling, blocks, cut, paste, resize, tiles

shapes = st.tuples(st.integers(1, 120), st.integers(1, 120))
tilings = st.builds(
    lambda stride, halo, core: Tiling(size_px=stride * (2 * halo + core), halo_px=stride * halo, stride_px=stride),
    stride=st.sampled_from([1, 4, 8, 16]),
    halo=st.integers(0, 2),
    core=st.integers(4, 9),
)


@given(shapes, tilings)
def test_written_parts_cover_the_image_once(shape, tiling):
    count = np.zeros(shape, int)
    for tile in tiles(shape, tiling):
        count[tile.write] += 1
    assert (count == 1).all()


@given(shapes, tilings)
def test_tiles_start_on_the_stride_have_one_size_and_no_more_than_asked(shape, tiling):
    cut_tiles = tiles(shape, tiling)
    extents = {tuple(axis.stop - axis.start for axis in tile.read) for tile in cut_tiles}
    assert len(extents) == 1
    for tile in cut_tiles:
        assert np.prod([axis.stop - axis.start for axis in tile.read]) <= tiling.size_px**2
        for axis in tile.read:
            assert axis.start % tiling.stride_px == 0
            assert axis.start >= 0
            assert (axis.stop - axis.start) % tiling.stride_px == 0


def test_a_tile_may_be_as_large_as_asked_whatever_its_shape():
    assert len(tiles((512, 2048), Tiling())) == 1
    assert len(tiles((512, 2080), Tiling())) > 1
    Tiling(size_px=96, halo_px=32, stride_px=32)
    with pytest.raises(ValueError, match="two halos"):
        Tiling(size_px=64, halo_px=32, stride_px=32)


@given(shapes, tilings)
def test_what_is_kept_is_what_is_written_with_its_halo_inside_the_tile(shape, tiling):
    for tile in tiles(shape, tiling):
        for read, keep, write, length in zip(tile.read, tile.keep, tile.write, shape, strict=True):
            assert read.start + keep.start == write.start
            assert keep.stop - keep.start == write.stop - write.start
            assert keep.start >= tiling.halo_px or write.start == 0
            assert read.stop - write.stop >= tiling.halo_px or write.stop == length


@given(shapes, st.sampled_from([(16, 4, 4), (32, 8, 8), (40, 8, 4)]))
def test_a_local_function_gives_the_same_in_tiles_as_on_the_whole(shape, sizes):
    tiling = Tiling(*sizes)
    random = np.random.default_rng(shape[0] * 1000 + shape[1])
    image = random.integers(0, 255, (*shape, 1), np.uint8)

    def local(part):  # looks 3 px far, less than every halo above; mirrored edges like those of `cut`
        return cv2.erode(part[..., 0], np.ones((7, 7), np.uint8), borderType=cv2.BORDER_CONSTANT)[np.newaxis]

    answer = np.empty((1, *shape), np.uint8)
    for tile in tiles(shape, tiling):
        paste(answer, local(cut(image, tile)), tile)
    padded = cut(image, tiles(shape, Tiling(size_px=1024, halo_px=0, stride_px=sizes[2]))[0])
    assert np.array_equal(answer, local(padded)[:, : shape[0], : shape[1]])


def test_a_tile_past_the_edge_is_mirrored_there():
    image = np.arange(6, dtype=np.uint8).reshape(1, 6, 1)
    (tile,) = tiles((1, 6), Tiling(size_px=8, halo_px=0, stride_px=4))
    assert cut(image, tile)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 5, 4]


def test_tiles_are_no_larger_than_the_image_needs():
    (extent,) = {tile.read[1].stop - tile.read[1].start for tile in tiles((1000, 1100), Tiling(1024, 64, 32))}
    assert extent <= 640  # two tiles of 1024 would read 2048 px for 1100


def test_a_wide_image_of_no_more_pixels_than_a_tile_is_read_once():
    (tile,) = tiles((600, 1500), Tiling(1024, 64, 32))
    assert tile.read == (slice(0, 608), slice(0, 1504))
    assert tile.write == tile.keep == (slice(0, 600), slice(0, 1500))


@given(shapes, tilings)
def test_blocks_read_only_pixels_that_exist_and_cover_the_image_once(shape, tiling):
    count = np.zeros(shape, int)
    for block in blocks(shape, tiling):
        assert block.read[0].stop <= shape[0]
        assert block.read[1].stop <= shape[1]
        count[block.write] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("sizes", [(100, 32, 32), (128, 30, 32), (128, 64, 32), (64, 0, 0)])
def test_an_impossible_tiling_is_a_mistake_of_ours(sizes):
    with pytest.raises(ValueError, match="Tiling"):
        Tiling(*sizes)


def test_shrinking_keeps_the_mean_and_growing_keeps_the_shape():
    image = np.kron(np.array([[0, 200], [200, 0]], np.uint8), np.ones((8, 8), np.uint8))[..., np.newaxis]
    assert resize(image, (1, 1))[0, 0, 0] == 100
    assert resize(image, (32, 48)).shape == (32, 48, 1)
    assert resize(image, (16, 16)) is image
