import copy

import torch
from torch import nn

torch.manual_seed(17)
q_net = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2))
target_net = copy.deepcopy(q_net)
optimizer = torch.optim.Adam(q_net.parameters(), lr=1e-3)
replay = [(torch.randn(4), int(torch.randint(2, ())), float(torch.randn(())), torch.randn(4)) for _ in range(40)]

for step in range(4):
    batch = [replay[int(i)] for i in torch.randint(len(replay), (8,))]
    obs, nxt = torch.stack([b[0] for b in batch]), torch.stack([b[3] for b in batch])
    best = target_net(nxt).max(1).values.tolist()
    targets = torch.tensor([b[2] + 0.99 * v for b, v in zip(batch, best)])
    picked = q_net(obs)[torch.arange(8), torch.tensor([b[1] for b in batch])]
    loss = nn.functional.smooth_l1_loss(picked, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 2:
        target_net.load_state_dict(q_net.state_dict())
    print(step, loss.item())
