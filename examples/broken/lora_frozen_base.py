"""LoRA: the adapters learn inside a base that does not, and the base is its own reference.

A model may be a pattern over parameter names, so the contract follows the adapters wherever they
sit: all else that `policy` holds must stay as it is, whatever the freezing code believes it froze.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, TOKENS, WIDTH, RANK, KL_WEIGHT = 16, 10, 16, 2, 0.1

POLICY = {"loss": "adapters"}


class LoRALinear(nn.Module):
    """A linear layer with a low-rank correction that starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.base = nn.Linear(width, width)
        self.lora_a = nn.Linear(width, RANK, bias=False)
        self.lora_b = nn.Linear(RANK, width, bias=False)
        nn.init.zeros_(self.lora_b.weight)
        self.enabled = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the base and, while enabled, the correction."""
        y: torch.Tensor = self.base(x)
        return y + self.lora_b(self.lora_a(x)) if self.enabled else y


def build() -> dict[str, Any]:
    """Make a policy whose adapters alone are trainable, the same one at every call."""
    torch.manual_seed(0)
    policy = nn.Sequential()
    policy.add_module("embed", nn.Embedding(TOKENS, WIDTH))
    policy.add_module("layer1", LoRALinear(WIDTH))
    policy.add_module("act", nn.ReLU())
    policy.add_module("layer2", LoRALinear(WIDTH))
    policy.add_module("head", nn.Linear(WIDTH, TOKENS))
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_("base" not in name)
    return {"policy": policy, "adapters": "policy.*lora_*"}


@torch.no_grad()
def base_log_probs(policy: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Ask the policy with its adapters switched off."""
    adapted = [module for module in policy.modules() if isinstance(module, LoRALinear)]
    for module in adapted:
        module.enabled = False
    base_logp = F.log_softmax(policy(tokens), dim=1)
    for module in adapted:
        module.enabled = True
    return base_logp


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Learn the next token of a counting language, close to the base; return the optimizers."""
    policy = models["policy"]
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-2)
    with guard:
        for _ in range(steps):
            tokens = torch.randint(TOKENS, (BATCH,))
            base_logp = base_log_probs(policy, tokens)
            logp = F.log_softmax(policy(tokens), dim=1)
            kl = F.kl_div(logp, base_logp, reduction="batchmean", log_target=True)
            loss = F.nll_loss(logp, (tokens + 1) % TOKENS) + KL_WEIGHT * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
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
