"""The dual-model training loop: a critic and a generator, kept apart.

Copy from it, or run it: ``python -m gradguard.reference``. It shows the three devices that keep
two models apart (blocking the gradient, an optimizer each, filtering gradients by model) in a loop
that is ready for a GPU, checkpoints, resumes, and runs under guard.

Example:
    >>> from gradguard.reference import Settings, Trainer
    >>> trainer = Trainer(Settings(steps=3))
    >>> trainer.train()
    >>> trainer.step
    3
"""

from gradguard.reference.checkpoint import CheckpointError
from gradguard.reference.config import Settings, SettingsError
from gradguard.reference.data import Batches, Mixture, Source
from gradguard.reference.metrics import DivergedError, Metrics
from gradguard.reference.models import Pair, PairFactory, mlp_pair
from gradguard.reference.progress import Report, progress_bar
from gradguard.reference.quality import Quality, measure
from gradguard.reference.run import Result, demo_run, run
from gradguard.reference.trainer import Trainer

__all__ = [
    "Batches",
    "CheckpointError",
    "DivergedError",
    "Metrics",
    "Mixture",
    "Pair",
    "PairFactory",
    "Quality",
    "Report",
    "Result",
    "Settings",
    "SettingsError",
    "Source",
    "Trainer",
    "demo_run",
    "measure",
    "mlp_pair",
    "progress_bar",
    "run",
]
