"""Ten thousand guarded steps in a process of their own, in which nothing else takes memory.

Writes what :func:`measured` returns, as JSON.
"""

import gc
import json
import sys
from typing import Any

import torch
from torch import Tensor, nn
from twins import POLICY, Scene

import gradguard

STEPS = 10_000


def leaking_step(scene: Scene) -> None:
    """Take a step in which a leak is applied and a spill is cleared, so that every path is used."""
    critic_loss = scene.critic(scene.generator(scene.z)).mean()
    critic_loss.backward()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()
    generator_loss = -scene.critic(scene.generator(scene.z)).mean()
    generator_loss.backward()
    scene.critic.zero_grad()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()


def tensors_alive() -> int:
    """Count the tensors of the process."""
    return sum(issubclass(type(found), Tensor) for found in gc.get_objects())


def measured() -> dict[str, Any]:
    """Train without a garbage collector, so that cycles count as memory as well.

    Returns:
        Over three stretches of the training the peak of memory blocks and the tensors alive at the
        end; and what was found how often.
    """
    gc.collect()
    gc.disable()
    torch.manual_seed(0)
    critic, generator = nn.Linear(2, 1), nn.Linear(3, 2)
    generator_opt = torch.optim.SGD(generator.parameters(), lr=0.0)
    scene = Scene({"critic": critic, "generator": generator}, {"generator_opt": generator_opt})
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    peaks: list[int] = []
    tensors: list[int] = []
    with guard:
        for steps in (4_000, 3_000, STEPS - 7_000):
            peak = 0
            for _ in range(steps):
                leaking_step(scene)
                peak = max(peak, sys.getallocatedblocks())
            peaks.append(peak)
            tensors.append(tensors_alive())
    found = [(f.code, f.loss, f.model, f.count) for f in guard.ledger.findings]
    return {"peaks": peaks, "tensors": tensors, "found": found}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured()))
