"""All microscopes that could have taken an image, weighed by how well they explain its contrasts.

The unknowns of one image are the oxide, the aperture, the channels, saturation of colours, stray light and gamma. They
are the same for all of its regions, which is why a staircase of terraces names itself. Each region is a film of the
crystal of some height, or strange: residue, shade, or anything. Sequential Monte Carlo carries a swarm of microscopes
from the prior to the posterior and gives the evidence of the hypothesis along the way (P. Del Moral, A. Doucet,
A. Jasra, J. R. Stat. Soc. B 68 (2006) 411).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from micro.thin_film.atlas import Atlas, chart
from micro.thin_film.camera import recorded
from micro.thin_film.materials import RESIDUE, find

Real = NDArray[np.float64]
Single = NDArray[np.float32]

UNKNOWNS = 14
ALIVE = 0.35  # share of the swarm that a step towards the posterior leaves effective
JUMP, WALK = 1.1, 0.5  # sizes of moves: of the swarm's spread, and of the best random walk in a Gaussian
MODEL_DOUBT = 0.03  # of a contrast: how far tables of indices and Gaussian channels are from the truth
MIX_DOUBT = 0.02
MIX = 0.1
COUNTED = 1e-3  # nm within which a height is that of a whole number of layers
RESIDUE_NM = tuple(np.arange(0.0, 129.0, 16.0).tolist())
SHADES = np.arange(-0.9, 0.31, 0.03)
ANYTHING_DENSITY = 0.15  # contrasts that nothing explains fill a box of about this inverse volume


@dataclass(frozen=True)
class Hypothesis:
    """What is taken for granted about an image before its contrasts are seen.

    oxide_doubt_nm: standard deviation of the oxide.
    exponents: (share, median, spread of the logarithm) of each sort of camera; pixels are light to this power.
    """

    material: str
    oxide_nm: float
    oxide_doubt_nm: float
    exponents: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Contrasts that one microscope setting has shown.

    contrast: (R, 3). usable: (R, 3), False where a channel is saturated.
    height_nm: (R,) where it is known, NaN where it is asked for.
    height_doubt_nm: (R,) standard deviation of a known height, 0 where layers were counted.
    strange: (R,) prior probability that a contrast is none of the crystal: a third each for residue, shade, anything.
    noise: (3,) standard deviation of a contrast that comes from the substrate and the sensor.
    """

    contrast: Real
    usable: NDArray[np.bool_]
    height_nm: Real
    height_doubt_nm: Real
    strange: Real
    noise: Real


@dataclass(frozen=True, eq=False)
class Microscopes:
    """The unknowns of P microscopes: centre_nm is (P, 3), matrix (P, 3, 3), all others (P,)."""

    aperture: Real
    oxide_nm: Real
    centre_nm: Real
    width_nm: Real
    matrix: Real
    stray: Real
    exponent: Real


def heights_nm(material: str) -> tuple[float, ...]:
    """Return the heights that are told apart, from 0: every layer first, then steps that grow."""
    layer_nm = find(material).layer_nm
    single, most_nm = (21, 1.5) if material == "hbn" else (13, 12.0)
    heights = [layer_nm * count for count in range(single)]
    step_nm = layer_nm
    while heights[-1] < 130:
        step_nm = min(step_nm * 1.15, most_nm)
        heights.append(heights[-1] + step_nm)
    return tuple(heights)


@cache
def _chart(material: str, low_nm: float, high_nm: float) -> Atlas:
    """Return the atlas of a material's films and, behind them, of residue."""
    films = chart(material, heights_nm(material), low_nm, high_nm)
    return films.with_films_of(chart(RESIDUE, RESIDUE_NM, low_nm, high_nm))


class Likelihood:
    """How likely contrasts are under a hypothesis, for any microscope that it allows.

    A kind is one height of the crystal or, after these, one of residue; see films and residues.
    height_nm, layers: (F,) of the crystal's kinds.
    """

    def __init__(self, hypothesis: Hypothesis) -> None:
        self.hypothesis = hypothesis
        reach_nm = 3.5 * hypothesis.oxide_doubt_nm
        range_nm = hypothesis.oxide_nm - reach_nm, hypothesis.oxide_nm + reach_nm
        film_nm = np.array(heights_nm(hypothesis.material))
        self._atlas = _chart(hypothesis.material, *range_nm)
        layers = film_nm / find(hypothesis.material).layer_nm
        self.height_nm, self.layers = film_nm[1:], layers[1:]
        self.films = slice(0, len(self.layers))
        self.residues = slice(len(self.layers), len(self.layers) + len(RESIDUE_NM) - 1)
        # Thin crystals are looked for and found more often than thick ones.
        self._share = np.gradient(layers)[1:] / (self.layers + 2)
        self._share /= self._share.sum()
        # Beyond the single layers, a kind stands for what lies between it and its neighbours: a piece of the curve.
        single = np.isclose(np.append(np.diff(layers), 0), 1)[1:]
        width = np.append(np.where(single, 0, 12**-0.5), np.full(len(RESIDUE_NM) - 1, 12**-0.5))
        self._width = width.astype(np.float32)
        self._apart_nm = np.where(single, COUNTED, np.gradient(film_nm)[1:] * 12**-0.5)
        self._exponents = np.geomspace(0.25, 2.5, 800)
        self._exponent_ranks = sum(
            weight * ndtr(np.log(self._exponents / median) / spread) for weight, median, spread in hypothesis.exponents
        )

    def microscopes(self, position: Real) -> Microscopes:
        """Return the microscopes at positions (P, 14), each coordinate standard normal before the evidence.

        Objectives have apertures from 0.22 to 0.9. Sensors of common cameras peak within 10 nm or so of 603, 540 and
        462 nm, lamp and filters included.
        """
        rank = ndtr(position[:, [0, 7]])
        return Microscopes(
            aperture=np.sqrt(0.05 + 0.76 * rank[:, 0]),
            oxide_nm=self.hypothesis.oxide_nm + self.hypothesis.oxide_doubt_nm * position[:, 1],
            centre_nm=np.array([603.0, 540.0, 462.0]) + np.array([12.0, 9.0, 9.0]) * position[:, 2:5],
            width_nm=85 * np.exp(0.25 * position[:, 5]),
            matrix=_matrix(MIX * position[:, 8:]),
            stray=0.03 * np.abs(position[:, 6]),
            exponent=np.interp(rank[:, 1], self._exponent_ranks, self._exponents),
        )

    def curve(self, position: Real) -> Single:
        """Return the contrast (P, K, 3) of every kind under every microscope."""
        return _contrast(self.microscopes(position), self._atlas)

    def density(self, position: Real, evidence: Evidence) -> Single:
        """Return the likelihood (R, P, K) of each contrast under each microscope and kind."""
        curve = np.ascontiguousarray(self.curve(position).transpose(2, 0, 1))
        parts = np.split(curve, [self.residues.start], axis=2)
        gap = np.concatenate([np.gradient(part, axis=2) for part in parts], axis=2) * self._width
        noise = evidence.noise.astype(np.float32)[:, np.newaxis, np.newaxis]
        variance = np.square(noise) + np.square(np.float32(MODEL_DOUBT) * curve) + np.square(gap)
        red, green, blue = np.abs(curve)
        variance += np.square(np.float32(MIX_DOUBT) * np.maximum(np.maximum(red, green), blue))
        inverse = 1 / variance
        # The quadratic form is a product of matrices: (c^2, c, 1) times (1/v, -2m/v, m^2/v + log v).
        basis = np.stack([inverse, -2 * curve * inverse, np.square(curve) * inverse + np.log(2 * np.pi * variance)])
        usable = evidence.usable.astype(np.float32)
        contrast = evidence.contrast.astype(np.float32) * usable
        features = np.float32(-0.5) * np.concatenate([np.square(contrast), contrast, usable], axis=1)
        density = features @ basis.reshape(features.shape[1], -1)
        np.exp(density, out=density)
        return np.asarray(density.reshape(len(contrast), *curve.shape[1:]), np.float32)

    def _shares(self, evidence: Evidence) -> Real:
        """Return the prior (R, K) of each kind."""
        strange = evidence.strange[:, np.newaxis]
        away = self.height_nm - evidence.height_nm[:, np.newaxis]
        doubt_nm = np.hypot(evidence.height_doubt_nm[:, np.newaxis], self._apart_nm)
        known = np.exp(-0.5 * np.square(away / doubt_nm))
        share = np.where(np.isnan(away), self._share, known / known.sum(1, keepdims=True).clip(1e-300))
        residue = np.broadcast_to(strange / (3 * (len(RESIDUE_NM) - 1)), (len(strange), len(RESIDUE_NM) - 1))
        return np.concatenate([(1 - strange) * share, residue], axis=1)

    def fit(self, position: Real, evidence: Evidence) -> Real:
        """Return the logarithm (P,) of the probability density of all contrasts."""
        share = self._shares(evidence).astype(np.float32)[..., np.newaxis]
        known = (self.density(position, evidence) @ share)[..., 0]
        return np.asarray(np.log(known + _unexplained(evidence)[:, np.newaxis]).sum(0))

    def answer(self, position: Real, evidence: Evidence) -> Real:
        """Return the probability (R, K) of each kind; what is left to 1 is shade or anything."""
        density = self.density(position, evidence) * self._shares(evidence)[:, np.newaxis]
        total = density.sum(2, keepdims=True, dtype=np.float64) + _unexplained(evidence)[:, np.newaxis, np.newaxis]
        return np.asarray((density / total).mean(1))

    def misfit(self, position: Real, evidence: Evidence) -> Real:
        """Return how far (R,) each contrast lies from the nearest height, in standard deviations a channel."""
        curve = self.curve(position)[:, self.films]
        variance = np.square(evidence.noise) + np.square(MODEL_DOUBT * curve)
        away = [
            (np.square(contrast - curve) / variance * usable).sum(2).min(1).mean() / max(usable.sum(), 1)
            for contrast, usable in zip(evidence.contrast, evidence.usable, strict=True)
        ]
        return np.asarray(np.sqrt(np.array(away)), np.float64)


def _contrast(seen: Microscopes, atlas: Atlas) -> Single:
    """Return contrast (P, K, 3) of each height but the first, which is the bare substrate."""
    light = atlas.relative(seen.aperture, seen.oxide_nm, seen.centre_nm, seen.width_nm).transpose(0, 2, 1)[:, 1:]
    stray, exponent = (part.astype(np.float32)[:, np.newaxis, np.newaxis] for part in (seen.stray, seen.exponent))
    return recorded(light, seen.matrix.astype(np.float32), stray, exponent)


def _matrix(mixing: Real) -> Real:
    """Return matrices (P, 3, 3) whose rows sum to 1, with mixing (P, 6) off the diagonal."""
    matrix = np.zeros((len(mixing), 3, 3))
    matrix[:, ~np.eye(3, dtype=bool)] = mixing
    matrix[:, range(3), range(3)] = 1 - matrix.sum(2)
    return matrix


def _unexplained(evidence: Evidence) -> Real:
    """Return prior times likelihood (R,) of shade, which is the same in all channels, and of anything."""
    variance = np.square(evidence.noise) + (SHADES[1] - SHADES[0]) ** 2 / 12
    away = np.square(evidence.contrast[:, np.newaxis] - SHADES[:, np.newaxis]) / variance + np.log(2 * np.pi * variance)
    shade = np.exp(-0.5 * (away * evidence.usable[:, np.newaxis]).sum(2)).mean(1)
    return np.asarray(evidence.strange / 3 * (shade + ANYTHING_DENSITY))


class Swarm:
    """Microscopes on their way from the prior, heat 0, to the posterior, heat 1.

    position: (P, 14). log_evidence: logarithm of the density of the evidence under the hypothesis, once settled.
    """

    def __init__(self, likelihood: Likelihood, evidence: Evidence, particles: int) -> None:
        self._rng = np.random.default_rng(0)
        self.likelihood = likelihood
        self.evidence = evidence
        self.position = self._rng.standard_normal((particles, UNKNOWNS))
        self._fit = likelihood.fit(self.position, evidence)
        self._heat = 0.0
        self.log_evidence = 0.0

    @property
    def best(self) -> float:
        """The logarithm of the density of the evidence under the best microscope so far."""
        return float(self._fit.max())

    def settle(self) -> None:
        """Carry the swarm to the posterior."""
        while self._heat < 1:
            self._cool()
            self.stir(1)

    def stir(self, rounds: int) -> None:
        """Move the swarm about in what it has reached, so that it forgets where it came from."""
        for _ in range(rounds):
            self._jump()
            self._walk()

    def _cool(self) -> None:
        """Go a step towards the posterior, and let the microscopes that fit better take the place of the others."""
        step = _step_size(self._fit, 1 - self._heat)
        self._heat += step
        weight = np.exp(step * (self._fit - self._fit.max()))
        self.log_evidence += float(np.log(weight.mean()) + step * self._fit.max())
        ranks = (np.arange(len(weight)) + self._rng.random()) / len(weight)
        chosen = np.searchsorted(weight.cumsum() / weight.sum(), ranks).clip(0, len(weight) - 1)
        self.position, self._fit = self.position[chosen], self._fit[chosen]
        self._middle = self.position.mean(0)
        self._root = np.linalg.cholesky(np.cov(self.position.T) + 1e-6 * np.eye(UNKNOWNS))

    def _jump(self) -> None:
        """Offer each microscope a place drawn from the Gaussian of the whole swarm, a little widened."""
        drawn = self._rng.standard_normal(self.position.shape)
        tried = self._middle + JUMP * drawn @ self._root.T
        here = np.linalg.solve(JUMP * self._root, (self.position - self._middle).T).T
        self._take(tried, (np.square(drawn).sum(1) - np.square(here).sum(1)) / 2)

    def _walk(self) -> None:
        """Offer each microscope a place near its own."""
        stride = WALK * 2.38 / UNKNOWNS**0.5 * self._root
        self._take(self.position + self._rng.standard_normal(self.position.shape) @ stride.T, np.zeros(()))

    def _take(self, tried: Real, correction: Real) -> None:
        """Accept places (P, 14) by the rule of Metropolis and Hastings; correction: log of how the offer leans."""
        fit = self.likelihood.fit(tried, self.evidence)
        gain = self._heat * (fit - self._fit) + (np.square(self.position).sum(1) - np.square(tried).sum(1)) / 2
        taken = np.log(self._rng.random(len(fit))) < gain + correction
        self.position[taken], self._fit[taken] = tried[taken], fit[taken]


def _step_size(fit: Real, most: float) -> float:
    """Return the largest step in heat that leaves enough of the swarm alive."""

    def alive(step: float) -> float:
        weight = np.exp(step * (fit - fit.max()))
        return float(weight.sum() ** 2 / np.square(weight).sum() / len(fit))

    if alive(most) >= ALIVE:
        return most
    low, high = 0.0, most
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if alive(middle) >= ALIVE else (low, middle)
    return max(low, 1e-6)
