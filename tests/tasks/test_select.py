"""What is written of fitted estimators, and named to be recorded."""

import pyarrow as pa

from reliabit.inference.predictions import PREDICTIONS
from reliabit.tasks.select import SELECTOR_FOLDER, Selected


def test_what_somebody_else_wrote_is_not_named(tmp_path):
    stale = tmp_path / SELECTOR_FOLDER / "selector" / "selector.safetensors"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another run")
    written = Selected(predictions=pa.table({"answer": ["a"]}), selectors={}, costs={}).write(tmp_path)
    assert written == [tmp_path / PREDICTIONS]
