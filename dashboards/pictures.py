"""Pictures that no browser shows, as PNG: TIFF (one page, or a stack of slices) and numpy arrays.

The files come from strangers. What they claim to be is looked at before anything is decoded, what
is shown has a bounded size, and no array is unpickled.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

LARGEST: Final = 1024
"""Pixels of a side that is shown, at most."""

PIXELS: Final = 1 << 25
"""Pixels of a slice that is decoded, at most: some hundred MB of memory."""

SLICES: Final = 2048
"""Slices of a stack, at most."""

_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NUMPY: Final = b"\x93NUMPY"
_GREY: Final = ("1", "L", "I", "F")

# One at a time: several large ones at once could take all memory.
_turn = threading.Lock()


class NoPicture(ValueError):
    """A file that cannot be shown; the text says why."""


@dataclass(frozen=True)
class Size:
    """How much there is to see.

    Attributes:
        slices: Of a stack; 1 for a single picture.
        width: In pixels, of the first slice.
        height: In pixels, of the first slice.
    """

    slices: int
    width: int
    height: int


def is_shown(name: str, media_type: str) -> bool:
    """Whether a file of this name and type is one that is turned into PNG here."""
    return media_type == "image/tiff" or name.lower().endswith((".tif", ".tiff", ".npy"))


def size(data: bytes) -> Size:
    """How much there is to see in a file; no pixel is decoded.

    Raises:
        NoPicture: It is no TIFF and no array of numbers of 2 or 3 dimensions, is damaged, or is
            larger than what is decoded here.
    """
    with _turn:
        if data.startswith(_NUMPY):
            stack = _array(data)
            return Size(stack.shape[0], stack.shape[2], stack.shape[1])
        with _opened(data) as image:
            width, height = image.size
            return Size(_count(image), width, height)


def png(data: bytes, at: int = 0) -> bytes:
    """One slice as PNG, no side longer than `LARGEST`; greys go from lowest to highest value.

    Args:
        data: The file.
        at: Which slice, from 0.

    Raises:
        NoPicture: As of `size`; or there is no such slice.
    """
    with _turn:
        if data.startswith(_NUMPY):
            stack = _array(data)
            if at >= len(stack):
                raise NoPicture(f"there are {len(stack)} slices, from 0")
            shown = _grey(stack[at])
        else:
            with _opened(data) as image:
                shown = _slice(image, at)
        shown.thumbnail((LARGEST, LARGEST))
        told = io.BytesIO()
        shown.save(told, "png")
        return told.getvalue()


def _opened(data: bytes) -> Image:
    from PIL import Image

    if not data.startswith(_TIFF):
        raise NoPicture("it is neither a TIFF nor an array of numpy")
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NoPicture(_too_large()) from None
    # a damaged file leads Pillow to errors of every kind
    except Exception as error:
        raise NoPicture(f"the TIFF cannot be read: {error}") from error
    _check(*image.size)
    return image


def _count(image: Image) -> int:
    """The slices of a stack, by walking along it: a count of a hostile file's would not end."""
    for at in range(SLICES):
        try:
            image.seek(at)
        except EOFError:
            return at
        except Exception as error:
            raise NoPicture(f"slice {at} of the TIFF cannot be read: {error}") from error
    raise NoPicture(f"it has {SLICES:,} slices or more")


def _slice(image: Image, at: int) -> Image:
    import numpy as np

    if at >= SLICES:
        raise NoPicture(f"of a stack, {SLICES:,} slices are shown")
    try:
        image.seek(at)
        _check(*image.size)  # each slice has a size of its own
        if image.mode in _GREY or image.mode.startswith("I;16"):
            return _grey(np.asarray(image))
        return image.convert("RGB")
    except NoPicture:
        raise
    except EOFError:
        raise NoPicture(f"there is no slice {at}") from None
    except Exception as error:
        raise NoPicture(f"slice {at} of the TIFF cannot be read: {error}") from error


def _array(data: bytes) -> np.ndarray:
    """An array as slices x rows x columns; it is a view of the file's bytes."""
    import numpy as np

    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
    except Exception as error:
        raise NoPicture(f"the array cannot be read: {error}") from error
    if dtype.kind not in "biuf" or len(shape) not in (2, 3) or 0 in shape:
        told = " x ".join(str(n) for n in shape) or "one value"
        raise NoPicture(f"it is no picture: {told} of {dtype}")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize > len(data) - file.tell():
        raise NoPicture("the array is cut off")
    values = np.frombuffer(data, dtype, count, file.tell())
    stack = values.reshape(shape, order="F" if fortran else "C")
    stack = stack if stack.ndim == 3 else stack[None]
    _check(stack.shape[2], stack.shape[1])
    if len(stack) > SLICES:
        raise NoPicture(f"it has more than {SLICES:,} slices")
    return stack


def _grey(values: np.ndarray) -> Image:
    """Rows x columns of numbers from black, the lowest, to white; what is no number is black."""
    import numpy as np
    from PIL import Image

    known = values.astype(np.float32)
    found = known[np.isfinite(known)]
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
    share = (known - low) / (high - low) if high > low else np.zeros_like(known)
    return Image.fromarray(np.nan_to_num(255 * share, posinf=255.0, neginf=0.0).astype(np.uint8))


def _check(width: int, height: int) -> None:
    if width * height > PIXELS:
        raise NoPicture(f"{width:,} x {height:,} pixels: {_too_large()}")


def _too_large() -> str:
    return f"it has more than the {PIXELS / 1e6:.0f} million pixels that are decoded here"
