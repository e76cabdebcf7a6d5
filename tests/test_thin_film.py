"""The optics of thin films: against another program, against published tables, against measured contrasts."""

from importlib.resources import files

import numpy as np
import pytest
import tmm
from scipy import constants
from scipy.linalg import expm

from micro.errors import BadSetting
from micro.thin_film import MATERIALS, Camera, Index, contrast, find, refractive_index
from micro.thin_film.atlas import APERTURES, chart
from micro.thin_film.camera import WAVELENGTHS_NM, channel_weights, recorded
from micro.thin_film.stack import cone_reflectance, reflectance


def stack_of(material):
    return [refractive_index(name, WAVELENGTHS_NM) for name in (material, "oxide", "silicon")]


@pytest.mark.parametrize("polarization", ["s", "p"])
@pytest.mark.parametrize("material", MATERIALS)
def test_the_reflectance_is_that_of_the_package_tmm(material, polarization):
    indices = [Index(index.plane, index.plane) for index in stack_of(material)]  # tmm knows no others
    for height_nm, sine in ((0.335, 0.0), (3.0, 0.45), (77.0, 0.9), (400.0, 0.6)):
        found = reflectance(
            indices, (np.array(height_nm), np.array(285.0)), WAVELENGTHS_NM, sine=sine, polarization=polarization
        )
        expected = [
            tmm.coh_tmm(polarization, [1, *media], [np.inf, height_nm, 285, np.inf], np.arcsin(sine), wavelength)["R"]
            for wavelength, *media in zip(WAVELENGTHS_NM, *(index.plane for index in indices), strict=True)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("sine", [0.0, 0.5, 0.9])
def test_a_crystal_that_refracts_otherwise_upright_is_what_the_fields_equations_say(sine):
    # Maxwell's equations for a field in the plane of incidence, as a system of first order in the depth:
    # D. W. Berreman, J. Opt. Soc. Am. 62 (1972) 502
    wavelength_nm, height_nm = np.array([550.0]), 60.0
    crystal, silicon = (refractive_index(name, wavelength_nm) for name in ("hbn", "silicon"))
    along, upright, below = (index[0] ** 2 for index in (crystal.plane, crystal.upright, silicon.plane))
    assert abs(upright - along) > 1
    step = expm(2j * np.pi * height_nm / 550 * np.array([[0, 1 - sine**2 / upright], [along, 0]]))
    field = np.linalg.solve(step, [np.sqrt(below - sine**2) / below, 1])  # (E along the surface, H) on top
    bare = np.sqrt(1 - sine**2) * field[1]
    expected = abs((bare - field[0]) / (bare + field[0])) ** 2
    found = reflectance((crystal, silicon), (np.array(height_nm),), wavelength_nm, sine=sine, polarization="p")
    assert found[0] == pytest.approx(expected, abs=1e-12)


def test_bare_silicon_reflects_as_fresnel_says():
    # ((3.906 - 1)^2 + 0.022^2) / ((3.906 + 1)^2 + 0.022^2) at 619.9 nm
    index = [refractive_index(name, np.array([619.9])) for name in ("oxide", "silicon")]
    bare = reflectance(index, (np.zeros(1),), np.array([619.9]), sine=0.0, polarization="s")
    assert bare[0] == pytest.approx(0.35087, abs=1e-4)


def test_the_cone_of_an_objective_of_no_aperture_is_a_single_ray():
    films = (np.array(0.335), np.array(90.0))
    narrow = cone_reflectance(stack_of("graphene"), films, WAVELENGTHS_NM, 1e-6)
    ray = reflectance(stack_of("graphene"), films, WAVELENGTHS_NM, sine=0.0, polarization="s")
    np.testing.assert_allclose(narrow, ray, rtol=1e-9)


def test_the_average_over_the_cone_is_that_of_many_rays():
    films = (np.array(20.0), np.array(300.0))
    sines = 0.9 * np.sqrt((np.arange(400) + 0.5) / 400)
    rays = [
        reflectance(stack_of("wse2"), films, WAVELENGTHS_NM, sine=sine, polarization=part)
        for sine in sines
        for part in "sp"
    ]
    found = cone_reflectance(stack_of("wse2"), films, WAVELENGTHS_NM, 0.9)
    np.testing.assert_allclose(found, np.mean(rays, axis=0), atol=1.5e-3)


# Calculated elsewhere for an aperture of 0.45, a lamp of 3200 K, channels at 600, 540 and 460 nm and a linear camera.
@pytest.mark.parametrize(
    ("material", "layers", "oxide_nm", "expected"),
    [
        ("graphene", 1, 90, (-0.129, -0.135, -0.093)),
        ("graphene", 2, 90, (-0.245, -0.254, -0.172)),
        ("graphene", 4, 90, (-0.445, -0.453, -0.293)),
        ("graphene", 1, 285, (-0.074, -0.093, -0.008)),
        ("graphene", 3, 285, (-0.207, -0.248, -0.016)),
        ("graphene", 1, 300, (-0.098, -0.062, 0.002)),
        ("graphene", 4, 300, (-0.343, -0.201, 0.011)),
        ("hbn", 1, 90, (-0.024, -0.010, 0.021)),
        ("hbn", 4, 285, (-0.084, -0.002, 0.071)),
        ("hbn", 4, 300, (-0.067, 0.062, 0.045)),
    ],
)
def test_contrasts_are_those_of_the_published_calculation(material, layers, oxide_nm, expected):
    found = contrast(material, np.array([layers]), oxide_nm, Camera())[0]
    np.testing.assert_allclose(found, expected, atol=0.011)


# Contrast models measured by others: graphene and WSe2 (2DMatGMM), graphene on 285 nm (MonArk, flea camera).
@pytest.mark.parametrize(
    ("material", "oxide_nm", "measured", "rms"),
    [
        (
            "graphene",
            92,
            [[-0.137, -0.140, -0.071], [-0.248, -0.264, -0.152], [-0.347, -0.368, -0.216], [-0.436, -0.465, -0.272]],
            0.015,
        ),
        ("wse2", 74, [[-0.410, -0.488, -0.619], [-0.677, -0.778, -0.835], [-0.843, -0.907, -0.838]], 0.035),
        ("graphene", 285, [[-0.068, -0.070, 0.004], [-0.119, -0.144, -0.018]], 0.025),
    ],
)
def test_measured_contrasts_are_explained_without_a_free_parameter_but_the_oxide(material, oxide_nm, measured, rms):
    found = contrast(material, np.arange(1, len(measured) + 1), oxide_nm, Camera())
    assert np.sqrt(np.mean(np.square(found - measured))) < rms


def test_encoding_for_a_screen_about_halves_the_contrast_of_one_layer():
    linear, encoded = (contrast("graphene", np.array([1]), 300, Camera(gamma=gamma))[0, 1] for gamma in (1.0, 2.2))
    assert encoded == pytest.approx((1 + linear) ** (1 / 2.2) - 1)
    assert encoded / linear == pytest.approx(0.46, abs=0.02)


def test_stray_light_and_mixed_colours_lower_contrasts_and_keep_grey_grey():
    plain = contrast("mos2", np.array([1]), 285, Camera())[0]
    stray = contrast("mos2", np.array([1]), 285, Camera(stray=0.25))[0]
    np.testing.assert_allclose(stray, plain / 1.25)
    mixed = contrast("mos2", np.array([1]), 285, Camera(saturation=-0.5))[0]
    assert mixed.mean() == pytest.approx(plain.mean())
    assert np.ptp(mixed) == pytest.approx(np.ptp(plain) / 2)


def test_each_channel_mixes_what_the_others_saw_and_none_falls_below_black():
    matrix = np.array([[1.3, -0.2, -0.1], [0.0, 0.9, 0.1], [0.2, -0.5, 1.3]])
    found = recorded(np.array([[0.4, 0.4, 0.4], [0.8, 0.5, 0.1], [0.0, 0.3, 0.6]]), matrix, 0.0, 1.0)
    np.testing.assert_allclose(found[0], -0.6)
    np.testing.assert_allclose(found[1], [0.93 - 1, 0.46 - 1, 0.04 - 1])
    assert found[2, 0] == pytest.approx(1e-3 - 1)


def test_a_channel_sees_a_lamp_of_3200_k_through_a_filter_of_its_width_at_half_height():
    metres = WAVELENGTHS_NM * 1e-9
    heat = constants.h * constants.c / (constants.k * 3200)
    lamp = 1 / (metres**5 * np.expm1(heat / metres))
    np.testing.assert_allclose(channel_weights(np.array(550.0), 1e9), lamp / lamp.sum(), rtol=1e-6)
    passed = channel_weights(np.array(550.0), 80.0) / lamp
    at = dict(zip(WAVELENGTHS_NM.tolist(), (passed / passed.max()).tolist(), strict=True))
    assert (at[510], at[550], at[590]) == pytest.approx((0.5, 1, 0.5))


def test_no_layers_give_no_contrast_and_a_hundred_look_like_bulk():
    nothing, some, bulk = contrast("graphene", np.array([0, 700, 800]), 90, Camera())
    np.testing.assert_allclose(nothing, 0, atol=1e-12)
    np.testing.assert_allclose(some, bulk, rtol=0.03)
    assert bulk[:2].min() > 1


def test_the_atlas_says_what_the_exact_integral_says():
    layers = np.arange(6)
    heights = tuple(float(count * find("graphene").layer_nm) for count in layers)
    atlas = chart("graphene", heights, 80.0, 100.0)
    rng = np.random.default_rng(0)
    centres = rng.normal((600, 540, 460), 8, (10, 3))
    apertures, oxides, widths = rng.uniform(0.3, 0.9, 10), rng.uniform(82, 98, 10), rng.uniform(60, 110, 10)
    found = atlas.relative(apertures, oxides, centres, widths)
    for index in range(10):
        camera = Camera(apertures[index], tuple(centres[index]), widths[index])
        np.testing.assert_allclose(found[index].T - 1, contrast("graphene", layers, oxides[index], camera), atol=0.01)
    edge, beyond = (
        atlas.relative(np.array([aperture]), np.array([oxide_nm]), centres[:1], widths[:1])
        for aperture, oxide_nm in ((APERTURES[-1], 100.0), (0.99, 130.0))
    )
    np.testing.assert_allclose(beyond, edge)


def test_every_table_says_where_it_comes_from():
    folder = files("micro.thin_film").joinpath("indices")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([*(f"{name}.csv" for name in MATERIALS), "oxide.csv", "residue.csv", "silicon.csv"])
    for name in names:
        text = folder.joinpath(name).read_text(encoding="utf-8")
        assert text.startswith("# ")
        if name != "residue.csv":
            assert "CC0 1.0" in text
            assert "doi 10." in text


def test_a_layer_is_half_the_c_axis_of_the_bulk():
    # measured by X-rays; WS2 by W. J. Schutte et al., J. Solid State Chem. 70 (1987) 207
    axes_nm = {"graphene": 0.6708, "hbn": 0.6661, "mos2": 1.2295, "mose2": 1.2927, "ws2": 1.2323, "wse2": 1.298}
    assert {name: find(name).layer_nm for name in MATERIALS} == pytest.approx(
        {name: axis_nm / 2 for name, axis_nm in axes_nm.items()}, rel=0.004
    )


def test_an_unknown_material_and_a_wavelength_without_data_are_refused():
    with pytest.raises(BadSetting, match="graphene, mos2"):
        find("unobtainium")
    with pytest.raises(BadSetting, match="from 400 to 700 nm"):
        refractive_index("mos2", np.array([900.0]))
    with pytest.raises(BadSetting, match="from 400 to 700 nm"):
        refractive_index("mos2", np.array([380.0, 500.0]))
    with pytest.raises(ValueError, match="one more is needed"):
        reflectance([Index(np.ones(1), np.ones(1))], (np.zeros(1),), np.array([500.0]), sine=0.0, polarization="s")
