"""From sources to results: each image exactly once, and on from where an earlier run stopped."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa

from micro.errors import RunRefused
from micro.line import corrections, hold, schema, tables
from micro.line.alarm import DriftAlarm
from micro.line.arrivals import Arrivals
from micro.line.cluster import Cluster, Crew, Job
from micro.line.identity import Identity
from micro.line.ledger import Ledger, wipe
from micro.line.record import Record
from micro.line.station import Judge, Manners, Station
from micro.line.watcher import Ended, RunSummary, Started, Watcher, tell
from micro.recipe import Recipe
from micro.regions import Progress


@dataclass(frozen=True)
class Place:
    """Where a run leaves its results.

    out: folder of label files, tables, record and, by default, the ledger.
    store: address of a PostgreSQL database that holds the ledger instead; any number of workers may share it.
    overwrite: throw away what earlier runs left there, instead of going on with it or refusing.
    """

    out: Path
    store: str | None = None
    overwrite: bool = False


def run_steps(
    arrivals: Arrivals,
    engine: Judge | Cluster,
    recipe: Recipe,
    place: Place,
    manners: Manners = Manners(),  # noqa: B008 -- frozen
    *,
    watchers: Sequence[Watcher] = (),
    stop: threading.Event | None = None,
) -> Generator[Progress, None, RunSummary]:
    """Judge every source and leave in `place.out` what the house plan lists; yield once an image.

    Results that are there are kept where the bytes of the image are the same; a file with other bytes under a name that
    has a result is a new image. Closing the generator, Ctrl-C or setting `stop` leaves tables of what is done, and the
    same run goes on from there; `stop` finishes what is in hand and ends in KeyboardInterrupt.

    Raises RunRefused when `place` is in use, holds results of another recipe, bundle or version, or cannot be written.
    """
    identity = Identity.of(recipe, engine.maker, version("micro"))
    out = _named_in_text(place.out.absolute())
    with hold.held(out) if place.store is None else nullcontext(), closing(_opened(place, out, identity)) as ledger:
        stop = stop or threading.Event()
        alarm = None if engine.reference is None else DriftAlarm.of_run(engine.reference, watchers, arrivals.total)
        watchers = watchers if alarm is None else (alarm, *watchers)
        station = _staff(engine, ledger, Job(identity, place.store or out, out, manners), watchers, stop)
        record = Record(out, identity, engine.settings, str(engine.device), ledger.name)

        def publish(state: str) -> None:
            tables.export(ledger.database, out)
            record.write(state, station.summary(), None if alarm is None else alarm.facts())

        state = "stopped"
        try:
            record.write("running", station.summary(), None)
            tell(watchers, Started(out, ledger.name, identity, str(engine.device), arrivals.total))
            yield from station.steps(arrivals)
            if stop.is_set():
                raise KeyboardInterrupt
            yield from station.patiently(lambda: publish("finished"))
            state = "finished"
        except (GeneratorExit, KeyboardInterrupt):
            state = "interrupted"
            raise
        except (OSError, sa.exc.DBAPIError) as fault:
            raise RunRefused(f"{out}: the run cannot go on ({schema.reason(fault)}).") from fault
        finally:
            if state != "finished":
                with suppress(OSError, sa.exc.SQLAlchemyError):  # that it ended is the news, and how is known
                    publish(state)
            tell(watchers, Ended(state, station.summary()))
        return station.summary()


def _named_in_text(out: Path) -> Path:
    """Return a folder that the ledger and the tables can name; raise RunRefused for any other."""
    try:
        str(out).encode()
    except UnicodeEncodeError as fault:
        raise RunRefused(f"{out}: its name holds bytes that are no UTF-8. Give another --out.") from fault
    return out


def _staff(
    engine: Judge | Cluster, ledger: Ledger, job: Job, watchers: Sequence[Watcher], stop: threading.Event
) -> Station | Crew:
    """Return who does the work: a station in this process, or those of a cluster."""
    if isinstance(engine, Cluster):
        return Crew(engine, ledger, job, watchers=watchers, stop=stop)
    return Station(engine, ledger, job.out, job.manners, watchers=watchers, stop=stop)


def _opened(place: Place, out: Path, identity: Identity) -> Ledger:
    """Return the ledger of a run, after making room for it where that is wanted."""
    if place.overwrite:
        corrections.refuse_loss(out, place.store)
    try:
        if place.store is None:
            if place.overwrite:
                hold.clear(out)
            else:
                hold.refuse_strangers(out)
            ledger = Ledger(out, identity, out)
            ledger.take_over()  # whoever holds the folder is alone
        else:
            out.mkdir(parents=True, exist_ok=True)
            if place.overwrite:
                hold.remove_labels(out, wipe(place.store, out))
            ledger = Ledger(place.store, identity, out)
        hold.sweep(out, is_mine=place.store is None)
    except (OSError, sa.exc.DBAPIError) as fault:
        raise RunRefused(
            f"{place.out}: results cannot be written there ({schema.reason(fault)}). Give another --out."
        ) from fault
    return ledger
