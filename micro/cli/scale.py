"""How large a pixel is, where the user says it: two flags that all verbs share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

if TYPE_CHECKING:
    from micro.formats.pixel_size import PixelSize


@Parameter(name="*")
@dataclass(frozen=True)
class Scale:
    """The pixel size as a user gives it.

    Parameters
    ----------
    pixel_size_um
        Size of one pixel in micrometres; overrides what the files say.
    scale_bar
        The length of the scale bar in place of that, such as 222px=50um.
    """

    pixel_size_um: float | None = None
    scale_bar: str | None = None

    def given(self) -> "PixelSize":
        """Return it; raise BadSetting where it is given in both ways or is no length."""
        from micro.formats.pixel_size import given

        return given(self.pixel_size_um, self.scale_bar)


AS_FILES_SAY = Scale()
