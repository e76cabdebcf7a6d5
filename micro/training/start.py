"""A start for trainings: weights from which a few steps on a few images of something new lead far.

python -m micro.training.start OUT --from BUNDLE --learn grains=FOLDER --learn phases=FOLDER --about about.yaml

Reptile (A. Nichol, J. Achiam, J. Schulman, arXiv:1803.02999, 2018): again and again a network learns one source for a
few steps, as if that were all there is, and the start moves a little towards where that led. What comes out is a bundle
to pass to `micro train --from`; it answers no image itself. The same command goes on where it stopped.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from micro import bundle as bundles
from micro import folder as folders
from micro import networks, tasks
from micro.bundle import Bundle
from micro.card import START, Card, DataSource, NetworkSpec
from micro.errors import BadSetting, MicroError
from micro.folder import AnnotatedFolder
from micro.training.loop import HEAD, Epoch, State, follow, last_layer, loss_of, starting_weights, take_over
from micro.training.making import About
from micro.training.plan import TrainingPlan, plan
from micro.training.samples import Sampler
from micro.training.sides import sides

INNER_STEPS = 8
CROP_PX = 96
# The start moves all the way at first, and not at all at the end.
FIRST_SHARE = 1.0
ROUNDS_AN_EPOCH = 8
CHECKPOINT = "start.pt"
COLOURS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """Annotated images of one kind, and the task that they are for."""

    task: str
    folder: AnnotatedFolder


def start_steps(
    sources: Sequence[Source], rounds: int, out: Path, card: Card, begun: Bundle
) -> Generator[Epoch, None, Bundle]:
    """Learn a start in so many rounds of INNER_STEPS, yielding now and then, and return the bundle, which lies in out.

    What a source's own training would hold out trains no start. Layers whose names begin with a task's are the last
    ones of that task; classes of pixels and frames are the user's own, and theirs are not kept. Raises BadSetting where
    some sources have maps and others name frames, where there is no round, and where out holds a bundle or what another
    command left.
    """
    if rounds < 1:
        raise BadSetting(f"{rounds} rounds learn nothing; there is at least one.")
    if (out / bundles.CARD).exists():
        raise BadSetting(f"{out}: a bundle lies here. Take another folder.")
    plans = [_plan(source, begun) for source in sources]
    kinds = {"segmenter" if each.network.kind == "unet" else "classifier" for each in plans}
    if len(kinds) > 1:
        raise BadSetting("A start is for networks that find regions or for such that name frames, and not for both.")
    (kind,) = kinds
    last = f"{last_layer(networks.build(plans[0].network))}."
    samplers = [
        Sampler(each, each.task_learned, (sides(each, source.folder.images)[0],))
        for each, source in zip(plans, sources, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    body: State = {}
    heads: dict[tuple[str, tuple[str, ...]], State] = {}
    done = 0
    asked = f"{rounds} {begun.card.weights_sha256} {' '.join(each.model_dump_json() for each in plans)}"
    if (out / CHECKPOINT).exists():
        before, *way = torch.load(out / CHECKPOINT, weights_only=True)
        if before != asked:
            raise BadSetting(f"{out / CHECKPOINT}: is of a start from other images or rounds. Take another folder.")
        done, body, heads = way
    losses: list[float] = []
    began = time.perf_counter()
    for number in range(done, rounds):
        made, sampler = plans[number % len(plans)], samplers[number % len(plans)]
        torch.manual_seed(number)
        network = networks.build(in_colour(made.network))
        take_over(network, starting_weights(made, begun))
        answers = made.task, made.network.outputs
        take_over(network, body | heads.get(answers, {}))
        start = {name: value.clone() for name, value in network.state_dict().items()}
        optimiser = torch.optim.AdamW(network.parameters(), lr=made.learning_rate, weight_decay=made.weight_decay)
        network.to(memory_format=torch.channels_last).train()
        first = number // len(plans) * INNER_STEPS
        for batch in sampler.batches(first, first + INNER_STEPS):
            loss = loss_of(network(batch.pixels.expand(-1, COLOURS, -1, -1)), batch, made)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        follow(start, network, 1 - FIRST_SHARE * (1 - number / rounds))
        heads[answers] = {name: value for name, value in start.items() if name.startswith(last)}
        body = {name: value for name, value in start.items() if not name.startswith(last)}
        done = number + 1
        if done % ROUNDS_AN_EPOCH == 0 or done == rounds:
            torch.save((asked, done, body, heads), out / f"{CHECKPOINT}.part")
            (out / f"{CHECKPOINT}.part").replace(out / CHECKPOINT)
            yield Epoch("start", done, rounds, sum(losses) / len(losses), time.perf_counter() - began)
            losses, began = [], time.perf_counter()
    fixed = {
        f"{task}_head{name.removeprefix(HEAD)}": value
        for (task, _), head in heads.items()
        if tasks.find(task).outputs
        for name, value in head.items()
    }
    network_of = in_colour(plans[0].network).model_copy(update={"outputs": (START,)})
    saved = bundles.save(
        out,
        card.model_copy(update={kind: network_of}),
        {f"{kind}.{name}": value.numpy() for name, value in (body | fixed).items()},
    )
    (out / CHECKPOINT).unlink(missing_ok=True)
    return saved


def card_of(name: str, about: About, sources: Sequence[Source], command: str) -> Card:
    """Return the card of a start; what it learned from is told in the order of the sources.

    Raises BadSetting where more is told than there are sources.
    """
    said = ((about.data_name, about.data_licence), *((each.name, each.licence) for each in about.beside))
    if len(said) > len(sources):
        raise BadSetting(f"The description names {len(said)} folders, and {len(sources)} are learned. Name those.")
    unsaid = [(source.folder.root.resolve().name, "not stated") for source in sources[len(said) :]]
    return Card(
        name=name,
        version=about.version,
        task=START,
        summary=about.summary,
        channels="rgb",
        classes=(),
        weights_sha256="0" * 64,
        licence=about.licence,
        data=tuple(
            DataSource(name=name, images=len(source.folder.images), licence=licence, role="training")
            for (name, licence), source in zip((*said, *unsaid), sources, strict=True)
        ),
        scores=(),
        limits=about.limits,
        command=command,
    )


def in_colour(spec: NetworkSpec) -> NetworkSpec:
    """Return the network that learns what these and other images show, grey ones as three equal channels."""
    return spec.model_copy(update={"in_channels": COLOURS})


def _plan(source: Source, begun: Bundle) -> TrainingPlan:
    """Return how one source is learned: at the whole rate, in small crops.

    Frames are as large as the bundle that it begins from takes them.
    """
    made = plan(source.folder, source.task, 1, start=begun)
    input_px = None if made.network.kind == "unet" or begun.card.classifier is None else begun.card.classifier.input_px
    network = made.network.model_copy(update={"input_px": input_px})
    rate = made.task_learned.habits.learning_rate
    return made.model_copy(update={"network": network, "crop_px": input_px or CROP_PX, "learning_rate": rate})


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn a start from folders that `micro train` reads, and write it as a bundle."""
    parser = argparse.ArgumentParser(prog="python -m micro.training.start", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="begun", required=True, help="bundle to begin from")
    parser.add_argument("--learn", action="append", required=True, help="TASK=FOLDER; repeat for more")
    parser.add_argument("--rounds", type=int, default=240)
    parser.add_argument("--about", type=Path, help="YAML file as `micro train` takes it")
    asked = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "micro.training.start", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        _learn(asked, command)
    except MicroError as fault:
        parser.error(str(fault))


def _learn(asked: argparse.Namespace, command: str) -> None:
    sources = []
    for each in asked.learn:
        task, _, place = each.partition("=")
        if not place:
            raise BadSetting(f"--learn {each}: write it as TASK=FOLDER, such as grains=drawn.")
        sources.append(Source(task, folders.read_for(tasks.find(task), Path(place))))
    about = About.load(asked.about) if asked.about else About()
    card = card_of(asked.out.resolve().name, about, sources, command)
    screen = Console()
    for epoch in start_steps(sources, asked.rounds, asked.out, card, bundles.load(asked.begun)):
        screen.print(f"{epoch.done} of {epoch.total}, {epoch.note}")


if __name__ == "__main__":
    main()
