"""What a training logs goes into the run that the tracker opened, and nowhere else."""

import lightning.pytorch as lightning
import torch
from torch.utils.data import DataLoader

from reliabit.tracking.lightning_logger import RunLogger
from reliabit.tracking.tracker import Journal


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_index):
        loss = ((self.slope - 1) ** 2 + 0 * batch.sum()).mean()
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)

    def train_dataloader(self):
        return DataLoader(torch.zeros(2, 1), batch_size=1)


def test_every_pass_is_in_the_run(tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.run("cell", tags={"kind": "cell"}) as run:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=RunLogger(run, prefix="training/line"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(Line())
    [found] = journal.runs_with({"kind": "cell"})
    # (1 - s)^2 halves its root at each of two steps: 1, 1/4; then 1/16, 1/64; then 1/256, 1/1024.
    assert found.data.metrics == {"training/line/loss": (1 / 256 + 1 / 1024) / 2}
    assert found.info.status == "FINISHED"
