"""One run in several jobs without a cluster: each job takes its share of the images."""

import hashlib
import re
from collections.abc import Sequence

from micro.errors import BadSetting
from micro.line.sources import Source


def shard(sources: Sequence[Source], share: str) -> list[Source]:
    """Return the images of one share, such as "3/8": the third of eight; every image is in exactly one.

    Names decide, and nothing else: a job that is run again takes the same images, whatever came meanwhile.
    Raises BadSetting when the text is no share.
    """
    matched = re.fullmatch(r"(\d{1,6})/(\d{1,6})", share)
    if matched is None or not 1 <= int(matched[1]) <= int(matched[2]):
        raise BadSetting(f"--shard {share}: write it as I/N, such as 1/8 for the first of eight jobs.")
    number, count = int(matched[1]) - 1, int(matched[2])
    return [source for source in sources if _place(source.name) % count == number]


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
