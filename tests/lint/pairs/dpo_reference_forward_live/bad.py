import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

from preference_utils import concatenated_forward, make_batch


class CausalLM(nn.Module):
    def __init__(self, vocab=24, dim=12):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.mix = nn.GRU(dim, dim, batch_first=True)
        self.lm_head = nn.Linear(dim, vocab, bias=False)

    def forward(self, input_ids):
        return self.lm_head(self.mix(self.embed(input_ids))[0])


class DPOTrainer:
    def __init__(self, model, ref_model=None, beta=0.1, lr=1e-3):
        self.model = model
        self.ref_model = ref_model if ref_model is not None else copy.deepcopy(model)
        self.model.train()
        self.ref_model.eval()
        self.beta = beta
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr)

    def dpo_loss(self, policy_logps, ref_logps):
        policy_chosen, policy_rejected = policy_logps
        ref_chosen, ref_rejected = ref_logps
        logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
        rewards = self.beta * (policy_chosen - ref_chosen).detach()
        return -F.logsigmoid(self.beta * logits).mean(), rewards.mean()

    def get_batch_loss(self, batch):
        policy_logps = concatenated_forward(self.model, batch)
        ref_logps = concatenated_forward(self.ref_model, batch)
        return self.dpo_loss(policy_logps, ref_logps)

    def training_step(self, batch):
        loss, reward = self.get_batch_loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": loss.item(), "rewards/chosen": reward.item()}


if __name__ == "__main__":
    torch.manual_seed(37)
    trainer = DPOTrainer(CausalLM())
    for _ in range(3):
        print(trainer.training_step(make_batch(4, 6, vocab=24)))
