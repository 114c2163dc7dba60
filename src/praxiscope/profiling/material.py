"""A model on the disk, as runtimes open it: in this process and in fresh ones that measure memory.

No torch is imported here: a process that runs ONNX Runtime alone stays as small as it would be in use.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.errors import DataError

NO_CALIBRATION = "int8 is calibrated on training images, never on others, and this run has none"
Images = npt.NDArray[np.float32]
"""(B, 3, S, S), normalised; of clips (B, T, 3, S, S)."""
Logits = npt.NDArray[np.float32]
"""(B, K)."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The files of one model.

    Attributes:
        folder: holds the files; each runtime adds what it needs.
        section: the recipe's ``model`` section as plain values.
        num_classes: K.
        img_size: side of the input in pixels.
        transformer: whether the network is one (calibration treats these otherwise).
        threads: of every runtime.
    """

    folder: Path
    section: dict[str, Any]
    num_classes: int
    img_size: int
    transformer: bool
    threads: int

    @property
    def weights(self) -> Path:
        """The weights, safetensors."""
        return self.folder / "weights.safetensors"

    @property
    def onnx(self) -> Path:
        """The network as ONNX in float32."""
        return self.folder / "model.onnx"

    @property
    def samples(self) -> Path:
        """Real images to compare runtimes on, float32 (N, 3, S, S), normalised."""
        return self.folder / "samples.npy"

    @property
    def calibration(self) -> Path:
        """Training images to calibrate int8 on, in the same form; absent where there are none."""
        return self.folder / "calibration.npy"

    def read_calibration(self) -> Images:
        """Return the images of ``calibration``.

        Raises:
            DataError: there are none.
        """
        if not self.calibration.is_file():
            raise DataError(NO_CALIBRATION)
        images: Images = np.load(self.calibration)
        return images

    def write(self) -> None:
        """Write what a fresh process needs to know."""
        values = {**asdict(self), "folder": str(self.folder)}
        (self.folder / "material.json").write_text(json.dumps(values), encoding="utf-8")


def read_material(folder: Path) -> Material:
    """Read what :meth:`Material.write` wrote."""
    values = json.loads((folder / "material.json").read_text(encoding="utf-8"))
    return Material(**{**values, "folder": folder})
