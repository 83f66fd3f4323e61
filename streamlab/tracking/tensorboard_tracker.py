"""TensorBoard: event files in the home, shown by `tensorboard --logdir HOME/tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from streamlab.files import delete_path
from streamlab.tracking import Ending, SeriesInfo

_FLUSH_SECONDS = 5


class TensorBoardSeries:
    """One folder of event files."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, ending: Ending) -> None:  # noqa: ARG002 - event files have no such mark
        """Write out what is left."""
        self._writer.close()


def begin(info: SeriesInfo) -> TensorBoardSeries:
    """Begin an empty folder of event files."""
    delete_path(info.folder)
    writer = SummaryWriter(str(info.folder), flush_secs=_FLUSH_SECONDS)
    writer.add_text("config", f"```json\n{json.dumps(info.config, indent=2)}\n```")
    return TensorBoardSeries(writer)
