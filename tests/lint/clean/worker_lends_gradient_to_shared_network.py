import torch
from torch import nn


class ActorCritic(nn.Module):
    def __init__(self, inputs, actions):
        super().__init__()
        self.trunk = nn.Linear(inputs, 16)
        self.policy = nn.Linear(16, actions)
        self.value = nn.Linear(16, 1)

    def forward(self, x):
        h = torch.tanh(self.trunk(x))
        return self.policy(h), self.value(h)


def lend_gradients(worker, shared):
    for mine, theirs in zip(worker.parameters(), shared.parameters()):
        if theirs.grad is not None:
            return
        theirs._grad = mine.grad


def work(shared, optimizer, rounds):
    worker = ActorCritic(4, 2)
    for _ in range(rounds):
        worker.load_state_dict(shared.state_dict())
        logits, values = worker(torch.randn(8, 4))
        log_probs = logits.log_softmax(-1)[:, 0]
        advantage = torch.randn(8) - values.squeeze(-1)
        policy_loss = -(log_probs * advantage.detach()).mean()
        value_loss = advantage.pow(2).mean()
        optimizer.zero_grad()
        worker.zero_grad()
        (policy_loss + 0.5 * value_loss).backward()
        lend_gradients(worker, shared)
        optimizer.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    shared = ActorCritic(4, 2)
    work(shared, torch.optim.Adam(shared.parameters(), lr=1e-3), rounds=3)
