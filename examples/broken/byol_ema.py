"""BYOL: the student predicts what the teacher sees, and the teacher follows by averaging.

The loss is symmetric in the two views, so the teacher is called twice and has to be cut off
twice. Its backward has no variable to be named after: `guard.loss` names it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, PIXELS, WIDTH, MOMENTUM = 16, 12, 8, 0.99

POLICY = {"byol_loss": ["student", "predictor"]}


def build() -> dict[str, Any]:
    """Make student, predictor and teacher, the same ones at every call."""
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Linear(PIXELS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, WIDTH)
    )
    return {
        "student": student,
        "predictor": nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, WIDTH)),
        "teacher": copy.deepcopy(student),
    }


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Train on two noisy views of a random batch a step, and return the optimizers."""
    student, predictor, teacher = models["student"], models["predictor"], models["teacher"]
    optimizer = torch.optim.SGD(
        [*student.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9
    )
    with guard:
        for _ in range(steps):
            images = torch.randn(BATCH, PIXELS)
            view_a = images + 0.1 * torch.randn_like(images)
            view_b = images + 0.1 * torch.randn_like(images)

            target_a = teacher(view_a)
            target_b = teacher(view_b).detach()
            loss_ab = -F.cosine_similarity(predictor(student(view_a)), target_b).mean()
            loss_ba = -F.cosine_similarity(predictor(student(view_b)), target_a).mean()
            optimizer.zero_grad()
            with guard.loss("byol_loss"):
                (loss_ab + loss_ba).backward()
            optimizer.step()

            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, 1 - MOMENTUM)
    return [optimizer]


def main() -> None:
    """Train under guard, then say what was found and what reached what."""
    models = build()
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    train(models, guard)
    print(*(guard.findings or ["no findings"]), sep="\n")
    print(guard.flow)


if __name__ == "__main__":
    main()
