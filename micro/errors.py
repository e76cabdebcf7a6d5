"""What can go wrong, said so that the user knows what to do next."""


class MicroError(Exception):
    """A mistake or a fault that a user can understand: what is wrong, where, and what to do."""


class UnreadableImage(MicroError):
    """A file is not an image that can be measured: damaged, empty, or of an unsupported kind."""


class UnknownPixelSize(MicroError):
    """A length was asked of an image whose pixel size nobody knows."""


class UnknownBundle(MicroError):
    """No bundle of that name is installed."""


class BrokenBundle(MicroError):
    """A bundle's files do not belong together, or are not what a bundle may contain."""


class BadFolder(MicroError):
    """An annotated folder cannot be trained on; the message lists every problem found in it."""


class BadSetting(MicroError):
    """A setting has an unknown name or a value out of range."""


class RunRefused(MicroError):
    """A run cannot start or go on in this output folder."""
