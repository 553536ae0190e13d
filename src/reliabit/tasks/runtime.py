"""What every task that computes sets up first: seeds, threads, and quiet libraries."""

import logging
import os
import warnings

from reliabit.config import Config
from reliabit.process import keep_freed_memory, rare_collections
from reliabit.threads import threads_of


def set_up(config: Config) -> None:
    """Seed everything, choose the threads, and silence what says nothing to the user.

    The configuration names the threads afterwards, so that they are recorded with a run.
    """
    # Nothing is fetched at run time: models and data are local folders or packages.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Lightning's advice to use more loader processes: encoding takes a few percent of a batch's time.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning's advice, on every machine of a cluster, to start with srun what is one process.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated.*")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)

    keep_freed_memory()
    config.trainer.threads = threads_of(config.trainer.threads)
    with rare_collections():
        import datasets
        import lightning.pytorch as lightning
        import torch
        import transformers

    # Bars of steps that take milliseconds.
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_num_threads(config.trainer.threads)
