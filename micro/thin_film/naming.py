"""How many layers each region has, how sure that is, and whether what the user said of the chip can be true."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from micro.thin_film.colours import distinct, seen_before
from micro.thin_film.inference import Evidence, Hypothesis, Likelihood, Swarm
from micro.thin_film.materials import MATERIALS, find
from micro.thin_film.profile import Colour, Point, Profile

Real = NDArray[np.float64]

MOST_LAYERS = 10  # more than these are "thick"
THICK, RESIDUE, UNKNOWN = "thick", "residue", "unknown"
# Nominal 90 nm chips range from 75 to 105 nm; 285 and 300 nm chips overlap.
USUAL_OXIDES_NM = ((88.0, 8.0), (292.0, 10.0))
OXIDE_DOUBT = 0.03  # of an oxide that the user gives
GAMMA_DOUBT = 0.05
# Linear cameras; pixels encoded for screens (IEC 61966-2-1: a power of 0.44 to 0.52 at usual levels); and any other
# tone curve. Measured on 285 nm chips: 0.6, 0.7, 0.75, 0.75, 0.9 and 1.5 times the calculated contrast of graphene.
USUAL_EXPONENTS = ((0.45, 1.0, 0.04), (0.2, 0.47, 0.08), (0.35, 0.78, 0.3))
STRANGE_REGION, STRANGE_PLACE, STRANGE_CONTEXT, STRANGE_POINT = 0.06, 0.15, 0.5, 0.02
MOST_EVIDENCE = 40
# To one, against another material or oxide. On 2 of some 100 drawn chips, cameras that the prior does not foresee spoke
# up to 300,000 to one against the true ones; of 72 wrong words 48 were contradicted louder than this.
WORD_OF_THE_USER = 1e6
ASKED_AGAIN = 1e3  # to one: from here on the user is asked whether he is sure, though he is believed
PARTICLES, RIVAL_PARTICLES = 1024, 256
STIRS, WORTH_STIRRING = 2, 0.01  # rounds for an explanation of at least this weight
HOPELESS = 15.0  # below the best: a hypothesis that cannot come back
THREADS = 2  # swarms know nothing of each other, and NumPy lets another thread work meanwhile
STRANGER = 2.5  # a misfit; its median was 0.5 to 1.9 in images of one setting, 3 to 5.5 in others
POINT_NOISE = 0.01  # of a contrast that was taken at one place
# Heights of flakes on oxide are off by up to a nanometre: P. Nemes-Incze et al., Carbon 46 (2008) 1435.
AFM_DOUBT_NM, AFM_SCALE_DOUBT = 0.5, 0.02
INTERVAL = 0.95
CLASSES = (*(f"{count}L" for count in range(1, MOST_LAYERS + 1)), THICK, RESIDUE, UNKNOWN)


@dataclass(frozen=True)
class Asked:
    """What the user says of the chip and the camera; None where nothing is said.

    gamma: 1.0 for a linear camera, 2.2 for one that encodes like a screen.
    profile: what else this microscope setting has shown, of which some may be known.
    """

    material: str | None = None
    oxide_nm: float | None = None
    gamma: float | None = None
    profile: Profile | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What an image shows.

    contrast: (R, 3) of each region. usable: (R, 3), False where a channel is saturated.
    context: (N, 3), contrasts of even patches elsewhere in the image, whatever they are.
    noise: (3,) standard deviation of a contrast that comes from the substrate.
    doubtful: (R,), True where nothing but its colour says that a region is a crystal; None: nowhere.
    """

    contrast: Real
    usable: NDArray[np.bool_]
    context: Real
    noise: Real
    doubtful: NDArray[np.bool_] | None = None

    @property
    def strange(self) -> Real:
        """The prior probability (R,) that a region is none of the crystal."""
        doubtful = np.zeros(len(self.contrast), bool) if self.doubtful is None else self.doubtful
        return np.where(doubtful, STRANGE_PLACE, STRANGE_REGION)


@dataclass(frozen=True, eq=False)
class Names:
    """The answer, one entry a region where not said otherwise.

    class_names: "1L" to "10L", "thick", "residue" or "unknown". probability: of that class.
    layers: number of layers, NaN where the class is no number of layers.
    thickness_nm, low_nm, high_nm: median and 95 % interval of the height, given that the region is a crystal; NaN for
        residue and unknown.
    misfit: distance from the nearest height, in standard deviations a channel.
    material: the one that explains the image best. oxide_nm: its oxide.
    trust: probability that the material and the oxide are what the user says; 1 where nothing is said.
    doubted: whether another material or oxide explains the colours a thousand times better than what the user says.
    remarks: what the user should know, in words.
    """

    class_names: tuple[str, ...]
    probability: Real
    layers: Real
    thickness_nm: Real
    low_nm: Real
    high_nm: Real
    misfit: Real
    material: str
    oxide_nm: float
    trust: float
    doubted: bool
    remarks: tuple[str, ...] = ()


class Recalled(NamedTuple):
    """What a point of a profile is by the other points, in words, and whether that is what is known of it."""

    answer: str
    agrees: bool


@dataclass(frozen=True, eq=False)
class _Explanation:
    """One hypothesis, the microscopes that it leaves, and its weight; said: whether it is what the user says."""

    swarm: Swarm
    weight: float
    said: bool

    @property
    def hypothesis(self) -> Hypothesis:
        return self.swarm.likelihood.hypothesis

    @property
    def oxide_nm(self) -> float:
        """The oxide of the microscopes that are left, on average."""
        return float(self.swarm.likelihood.microscopes(self.swarm.position).oxide_nm.mean())


class _Rival(NamedTuple):
    """What explains the colours best of all that the user did not say, and how many times better than what he said."""

    explanation: _Explanation
    odds: float

    @classmethod
    def of(cls, explanations: Sequence[_Explanation]) -> Self | None:
        """Return the best rival among explanations, or None where nothing speaks against what the user says."""
        trust = sum(part.weight for part in explanations if part.said)
        best = max((part for part in explanations if not part.said), key=lambda part: part.weight, default=None)
        return None if best is None else cls(best, best.weight / max(trust, 1e-9) * WORD_OF_THE_USER)


def name(seen: Seen, asked: Asked) -> Names:
    """Name the regions of one image.

    What the user says of material and oxide is believed a million to one; where the contrasts speak louder for others,
    the regions are "unknown" and a remark says why. From a thousand to one on a remark asks whether he is sure.
    """
    evidence = _evidence(seen, asked.profile)
    explanations = _explained(evidence, asked)
    said = [part for part in explanations if part.said]
    best = max(said, key=lambda part: part.weight)
    count = len(seen.contrast)
    asked_for = np.full(count, np.nan)
    regions = Evidence(seen.contrast, seen.usable, asked_for, asked_for, seen.strange, seen.noise)
    share = np.zeros((count, len(CLASSES)))
    heights, weights = [], []
    for part in said:
        likelihood = part.swarm.likelihood
        answer = part.weight * likelihood.answer(part.swarm.position, regions)
        film = answer[:, likelihood.films]
        place = np.rint(likelihood.layers).astype(np.intp).clip(1, MOST_LAYERS + 1) - 1
        for index in range(MOST_LAYERS + 1):
            share[:, index] += film[:, place == index].sum(1)
        share[:, CLASSES.index(RESIDUE)] += answer[:, likelihood.residues].sum(1)
        heights.append(likelihood.height_nm)
        weights.append(film)
    share[:, CLASSES.index(UNKNOWN)] = (1 - share.sum(1)).clip(0)
    chosen = share.argmax(1)
    quantiles = _quantiles(np.concatenate(heights), np.concatenate(weights, axis=1))
    median_nm, low_nm, high_nm = np.where(chosen <= MOST_LAYERS, quantiles, np.nan)
    names = Names(
        class_names=tuple(CLASSES[index] for index in chosen),
        probability=share[np.arange(count), chosen],
        layers=np.where(chosen < MOST_LAYERS, chosen + 1.0, np.nan),
        thickness_nm=median_nm,
        low_nm=low_nm,
        high_nm=high_nm,
        misfit=best.swarm.likelihood.misfit(best.swarm.position, regions),
        material=best.hypothesis.material,
        oxide_nm=best.oxide_nm,
        trust=sum(part.weight for part in said),
        doubted=False,
    )
    remarks = _remarks(names, explanations, asked)
    rival = _Rival.of(explanations)
    if rival is None or rival.odds < ASKED_AGAIN:
        return replace(names, remarks=remarks)
    return replace(names, doubted=True, remarks=(_question(names, rival), *(remarks if names.trust >= 0.5 else ())))


def named_by_the_others(profile: Profile) -> tuple[Recalled, ...]:
    """Return what each point of a profile would be by the other points: how far the profile can be trusted.

    A measured height agrees where it lies in the interval, give or take what AFM is off by.
    """
    answers = []
    for index, point in enumerate(profile.points):
        others = profile.model_copy(update={"points": profile.points[:index] + profile.points[index + 1 :]})
        names = name(_shown([point]), Asked(profile=others))
        if point.height_nm is None:
            answers.append(Recalled(names.class_names[0], names.class_names[0] == point.known))
            continue
        nm, low_nm, high_nm = names.thickness_nm[0], names.low_nm[0], names.high_nm[0]
        answer = names.class_names[0] if np.isnan(nm) else f"{nm:.1f} nm ({low_nm:.1f} to {high_nm:.1f})"
        off_nm = 2 * np.hypot(AFM_DOUBT_NM, AFM_SCALE_DOUBT * point.height_nm)
        answers.append(Recalled(answer, bool(low_nm - off_nm <= point.height_nm <= high_nm + off_nm)))
    return tuple(answers)


def objections(profile: Profile) -> tuple[str, ...]:
    """Return in words what the flakes that a profile has seen say against it: nothing, where all fit together.

    Either another material or oxide explains them better, which is found where no point is known; or several flakes of
    one image do not fit the curve of all others, so that it was taken with another setting.
    """
    if profile.seen and not profile.points:
        names = name(_shown(profile.seen), Asked(profile.material, profile.oxide_nm, profile.gamma))
        if names.doubted:
            return names.remarks[:1]
    return tuple(
        f"{image} does not fit the other images. Was it taken with the same objective, lamp, camera and exposure, and "
        f"on the same oxide?"
        for image in dict.fromkeys(each.image for each in profile.seen)
        if _is_stranger(profile, image)
    )


def _is_stranger(profile: Profile, image: str) -> bool:
    """Whether most flakes of an image, and more than one, fit nothing by all else that a profile knows."""
    theirs = [each for each in profile.seen if each.image == image]
    rest = profile.model_copy(update={"seen": tuple(each for each in profile.seen if each.image != image)})
    if len(theirs) == 1 or not (rest.seen or rest.points):
        return False
    names = name(_shown(theirs), Asked(profile=rest))
    fits_nothing = (names.misfit > STRANGER) | (np.array(names.class_names) == UNKNOWN)
    return bool(fits_nothing.sum() > max(1, len(theirs) / 2))


def _shown(colours: Sequence[Colour]) -> Seen:
    contrast = np.array([each.contrast for each in colours])
    return Seen(contrast, np.ones(contrast.shape, bool), np.zeros((0, 3)), np.full(3, POINT_NOISE))


def profile_of(points: Sequence[Point]) -> Profile:
    """Return the profile of points whose material nobody said: the one that explains their contrasts best.

    points: with numbers of layers; heights speak less clearly.
    """
    nothing = Seen(np.zeros((0, 3)), np.zeros((0, 3), bool), np.zeros((0, 3)), np.full(3, POINT_NOISE))
    profiles = [Profile(material=material, points=tuple(points)) for material in MATERIALS]  # type: ignore[arg-type]
    logs = []
    for profile in profiles:
        explanations = _explained(_evidence(nothing, profile), Asked(profile=profile))
        logs.append(max(part.swarm.log_evidence for part in explanations))
    return profiles[int(np.argmax(logs))]


def _evidence(seen: Seen, profile: Profile | None) -> Evidence:
    """Return the contrasts that speak for or against microscopes: regions, context, and points of the profile."""
    first = distinct(seen.contrast)[:MOST_EVIDENCE]
    contrast, usable = [seen.contrast[first]], [seen.usable[first]]
    strange = [seen.strange[first]]
    height_nm = [np.full(len(first), np.nan)]
    fresh = [row for row in seen.context if not seen_before(row, contrast[0])]
    context = np.array(fresh[: MOST_EVIDENCE - len(first)]).reshape(-1, 3)
    points, others = (profile.points, profile.seen) if profile else ((), ())
    # an image that is named by its own profile has shown its flakes but once
    elsewhere = [each.contrast for each in others if not seen_before(np.array(each.contrast), contrast[0])]
    found = np.array(elsewhere).reshape(-1, 3)
    known = np.array([point.contrast for point in points]).reshape(-1, 3)
    layer_nm = find(profile.material).layer_nm if profile else 0.0
    counted = np.array([point.layers is not None for point in points], bool)
    point_nm = np.array([point.height_nm or (point.layers or 0) * layer_nm for point in points], np.float64)
    for extra, doubt, nm in (
        (context, STRANGE_CONTEXT, np.full(len(context), np.nan)),
        (found, STRANGE_PLACE, np.full(len(found), np.nan)),
        (known, STRANGE_POINT, point_nm),
    ):
        contrast.append(extra)
        usable.append(np.ones(extra.shape, bool))
        strange.append(np.full(len(extra), doubt))
        height_nm.append(nm)
    heights = np.concatenate(height_nm)
    doubts = np.zeros_like(heights)
    doubts[len(heights) - len(points) :] = np.where(counted, 0, np.hypot(AFM_DOUBT_NM, AFM_SCALE_DOUBT * point_nm))
    return Evidence(
        np.concatenate(contrast), np.concatenate(usable), heights, doubts, np.concatenate(strange), seen.noise
    )


def _explained(evidence: Evidence, asked: Asked) -> list[_Explanation]:
    """Return what is left of each hypothesis that can explain the evidence, and all that the user says."""
    profile = asked.profile
    material = profile.material if profile else asked.material
    oxide_nm = (profile.oxide_nm if profile else None) or asked.oxide_nm
    gamma = (profile.gamma if profile else None) or asked.gamma
    exponents = ((1.0, 1 / gamma, GAMMA_DOUBT),) if gamma else USUAL_EXPONENTS
    said_oxides = ((oxide_nm, OXIDE_DOUBT * oxide_nm),) if oxide_nm else USUAL_OXIDES_NM
    said_materials = (material,) if material else MATERIALS
    # what the user calls 285 nm is no rival to 292 nm
    others = [oxide for oxide in USUAL_OXIDES_NM if not oxide_nm or abs(oxide[0] - oxide_nm) > 3 * oxide[1]]
    rivals = (
        []
        if profile and profile.points
        else [(name, nm, doubt) for name in MATERIALS for nm, doubt in (*said_oxides, *others)]
    )
    said = [(name, nm, doubt) for name in said_materials for nm, doubt in said_oxides]
    swarms = [
        (
            Swarm(Likelihood(Hypothesis(*chip, exponents)), evidence, PARTICLES if chip in said else RIVAL_PARTICLES),
            chip in said,
        )
        for chip in dict.fromkeys([*said, *rivals])
    ]
    best, best_said = (max(swarm.best for swarm, true in swarms if true or not only) for only in (False, True))
    kept = [(swarm, true) for swarm, true in swarms if swarm.best > (best_said if true else best) - HOPELESS]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(Swarm.settle, [swarm for swarm, _ in kept]))
        bonus = np.log(WORD_OF_THE_USER)
        logs = np.array([swarm.log_evidence + bonus * true for swarm, true in kept])
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        worth = [swarm for (swarm, true), weight in zip(kept, weights, strict=True) if true and weight > WORTH_STIRRING]
        list(pool.map(partial(Swarm.stir, rounds=STIRS), worth))
    return [_Explanation(swarm, float(weight), true) for (swarm, true), weight in zip(kept, weights, strict=True)]


def _quantiles(heights_nm: Real, weights: Real) -> Real:
    """Return median and both ends of the interval (3, R) of heights (K,) with weights (R, K)."""
    order = np.argsort(heights_nm)
    heights, ranks = heights_nm[order], weights[:, order].cumsum(1)
    ends = (0.5, (1 - INTERVAL) / 2, (1 + INTERVAL) / 2)
    return np.array([[heights[np.searchsorted(rank, end * rank[-1])] for rank in ranks] for end in ends])


def _remarks(names: Names, explanations: list[_Explanation], asked: Asked) -> tuple[str, ...]:
    """Return what the user should know of the image as a whole, whatever he has said of the chip."""
    misfit = float(np.median(names.misfit))
    chip = _chip(names.material, names.oxide_nm)
    unknown = names.class_names.count(UNKNOWN)
    remarks = []
    if asked.material is None and asked.profile is None:
        weight = sum(part.weight for part in explanations if part.hypothesis.material == names.material)
        remarks.append(f"read as {chip} with a probability of {weight:.2f}, since no material was given")
    if 2 * unknown > len(names.class_names):
        remarks.append(
            f"{unknown} of {len(names.class_names)} regions fit no number of layers of {find(names.material).title} "
            f"(misfit {misfit:.1f} standard deviations)"
        )
    return tuple(remarks)


def _question(names: Names, rival: _Rival) -> str:
    """Return what is to be asked of a user whose word the colours speak against, and what was done about it."""
    chip, misfit = _chip(names.material, names.oxide_nm), float(np.median(names.misfit))
    other = _chip(rival.explanation.hypothesis.material, rival.explanation.oxide_nm)
    if names.trust < 0.5:
        return (
            f"{chip} does not explain the colours (misfit {misfit:.1f} standard deviations): {other} does "
            f"{rival.odds:.2g} times better. Is the material or the oxide another one?"
        )
    return (
        f"read as {chip}, as you say (misfit {misfit:.1f} standard deviations), though {other} explains the colours "
        f"{rival.odds:.2g} times better. Look again."
    )


def _chip(material: str, oxide_nm: float) -> str:
    return f"{find(material).title} on {oxide_nm:.0f} nm of oxide"
