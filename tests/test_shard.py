from collections import Counter

import pytest

from micro.errors import BadSetting
from micro.line.shard import shard
from micro.line.sources import Source

SOURCES = [Source(f"day{number % 3}/{number:04}.png", f"/in/{number}.png") for number in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_image_is_in_exactly_one_share_and_shares_are_alike(count: int) -> None:
    shares = [shard(SOURCES, f"{number + 1}/{count}") for number in range(count)]
    assert Counter(source for share in shares for source in share) == Counter(SOURCES)
    assert all(abs(len(share) - 1000 / count) < 5 * (1000 / count) ** 0.5 for share in shares)


def test_an_image_stays_in_its_share_whatever_else_is_there() -> None:
    whole = set(shard(SOURCES, "2/5"))
    assert set(shard(SOURCES[::7], "2/5")) == whole & set(SOURCES[::7])


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "-1/4", "a/b", "1/4/2", ""])
def test_what_is_no_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadSetting, match="1/8"):
        shard(SOURCES, text)
