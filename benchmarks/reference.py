"""How good the reference loop gets, and how long that takes: ``python -m benchmarks.reference``.

The goal is 7 of 8 modes and 80 % of samples within 3 sigma of one, in a minute of CPU time.
"""

from __future__ import annotations

import time

from gradguard.reference import Mixture, Settings, Trainer, measure

SEEDS = (0, 1, 2)
SAMPLES = 10_000


def main() -> None:
    """Train under guard with each seed and print a row for it."""
    print("| seed | modes | samples within 3 sigma | CPU time |\n| --- | --- | --- | --- |")
    for seed in SEEDS:
        begin = time.process_time()
        trainer = Trainer(Settings(seed=seed))
        trainer.train()
        seconds = time.process_time() - begin
        quality = measure(trainer.sample(SAMPLES), Mixture())
        print(f"| {seed} | {quality.covered} of 8 | {quality.good:.1%} | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
