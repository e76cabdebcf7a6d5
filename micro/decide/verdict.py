"""One frame judged by its class and how sure that is."""

import math

OK = "OK"
NG = "NG"
REVIEW = "REVIEW"


def together(named: str | None, found: str | None) -> str | None:
    """Return one verdict from that on the class of a frame and that on what was found in it; None: not asked.

    A frame that is not OK by its class and in which nothing is found is for a person to look at.
    """
    if named is None or found is None:
        return named or found
    return REVIEW if found == OK else found


def verdict(
    class_name: str, score: float, *, ok_classes: tuple[str, ...] = (), review_below: float | None = None
) -> str:
    """Judge one frame by its class.

    A frame of one of ok_classes is OK, any other is NG, and one that the network is less sure of than review_below is
    REVIEW, whichever class it was given: a doubtful OK can hide a defect, a doubtful NG can cost a good sheet.
    Without ok_classes every class is a defect. Without review_below there is no REVIEW.

    score: probability of class_name, 0..1; NaN, of a network that gave no number, is REVIEW.
    """
    if math.isnan(score) or (review_below is not None and score < review_below):
        return REVIEW
    return OK if class_name in ok_classes else NG
