"""A camera as a source of frames, through the input devices that PyAV's FFmpeg was built with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.video import Frame, Sampling, decode_frames
from praxiscope.errors import EnvironmentProblem

if TYPE_CHECKING:
    import av.container


@dataclass(frozen=True, kw_only=True)
class CameraAddress:
    """How FFmpeg is asked for a camera.

    Attributes:
        format: FFmpeg's input device: ``v4l2``, ``avfoundation``, ``dshow``.
        file: what that device calls the camera.
        options: what it must be told besides.
    """

    format: str
    file: str
    options: dict[str, str]


def find_addresses(number: int, platform: str = sys.platform) -> list[CameraAddress]:
    """Return the ways to ask for a camera on this system, the likeliest first.

    Args:
        number: 0-based.
        platform: as ``sys.platform``.
    """
    if platform.startswith("linux"):
        return [CameraAddress(format="v4l2", file=f"/dev/video{number}", options={})]
    if platform == "darwin":
        # avfoundation refuses its own default of 29.97 frames a second on most built-in cameras.
        rates: tuple[dict[str, str], ...] = ({"framerate": "30"}, {"framerate": "15"}, {})
        return [CameraAddress(format="avfoundation", file=f"{number}:none", options=dict(r)) for r in rates]
    if platform == "win32":
        names = _list_names("dshow")
        return [
            CameraAddress(format="dshow", file=f"video={name}", options={}) for name in names[number:][:1]
        ]
    return []


def read_camera(number: int, sampling: Sampling, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Frame]:
    """Yield a camera's chosen frames until the sampling's limit, or for ever.

    Raises:
        EnvironmentProblem: No such camera; says what was tried.
        VideoUnreadable: It stopped to deliver.
    """
    yield from decode_frames(open_camera(number), sampling, max_pixels=max_pixels)


def open_camera(number: int) -> av.container.InputContainer:
    """Open a camera.

    Raises:
        EnvironmentProblem: No such camera; says what was tried.
    """
    import av

    tried = []
    for address in find_addresses(number):
        try:
            return av.open(address.file, format=address.format, options=address.options)
        except (av.FFmpegError, OSError, ValueError) as problem:
            words = getattr(problem, "strerror", None) or str(problem)
            given = "".join(f" {key}={value}" for key, value in address.options.items())
            tried.append(f"{address.format} {address.file}{given}: {words}")
    looked = "; ".join(tried) or f"no camera of that number is listed on {sys.platform}"
    raise EnvironmentProblem(
        f"Camera {number} can't be opened. Tried {looked}. See that it is plugged in, that no other "
        "program uses it and that this one may (on Linux the group 'video', on macOS "
        "Settings > Privacy > Camera)."
    )


def _list_names(device: str) -> list[str]:
    import av

    enumerate_devices: Any = getattr(av, "enumerate_input_devices", None)  # since PyAV 17
    if enumerate_devices is None:
        return []
    try:
        return [entry.description or entry.name for entry in enumerate_devices(device)]
    except (av.FFmpegError, ValueError):
        return []
