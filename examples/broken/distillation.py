"""Distillation: the teacher learns alone, then the student learns while the teacher is fixed.

`gradguard.only` guards a single loss without a policy. `gradguard.frozen` holds the teacher's
parameters and BatchNorm statistics, checks that they stayed, and gives every `requires_grad` back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, PIXELS, CLASSES, TEMPERATURE = 32, 12, 4, 3.0

POLICY = {"distill_loss": "student"}


def build() -> dict[str, Any]:
    """Make a wide teacher and a narrow student, the same ones at every call."""
    torch.manual_seed(0)
    return {
        "teacher": nn.Sequential(
            nn.Linear(PIXELS, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, CLASSES)
        ),
        "student": nn.Sequential(nn.Linear(PIXELS, 8), nn.ReLU(), nn.Linear(8, CLASSES)),
    }


def pretrain(teacher: nn.Module, steps: int) -> torch.optim.Optimizer:
    """Teach the teacher which of the first CLASSES pixels is brightest."""
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    with gradguard.only(teacher):
        for _ in range(steps):
            images = torch.randn(BATCH, PIXELS)
            teacher_loss = F.cross_entropy(teacher(images), images[:, :CLASSES].argmax(dim=1))
            optimizer.zero_grad()
            teacher_loss.backward()
            optimizer.step()
    return optimizer


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Train the teacher, then the student on its softened answers; return the optimizers."""
    teacher, student = models["teacher"], models["student"]
    teacher_opt = pretrain(teacher, steps)
    student_opt = torch.optim.SGD(student.parameters(), lr=0.1)
    teacher.eval()
    with guard, gradguard.frozen(teacher):
        for _ in range(steps):
            images = torch.randn(BATCH, PIXELS)
            wanted = F.log_softmax(teacher(images) / TEMPERATURE, dim=1)
            answered = F.log_softmax(student(images) / TEMPERATURE, dim=1)
            distill_loss = F.kl_div(answered, wanted, reduction="batchmean", log_target=True)
            distill_loss.backward()
            student_opt.step()
    return [teacher_opt, student_opt]


def main() -> None:
    """Train under guard, then say what was found and what reached what."""
    models = build()
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    train(models, guard)
    print(*(guard.findings or ["no findings"]), sep="\n")
    print(guard.flow)


if __name__ == "__main__":
    main()
