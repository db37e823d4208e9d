import torch


def clear(tensors):
    for tensor in tensors:
        if tensor.grad is not None:
            tensor.grad = torch.zeros_like(tensor.grad)


def optimize(design, network, loss_function, optimizer, capture, steps):
    used = None
    for _ in range(steps):
        if used is not None:
            clear(used)
        with capture() as captured:
            loss = loss_function(network(design)).mean()
        used = {site["value"].unconstrained() for site in captured.nodes.values()}
        loss.backward()
        optimizer.step()
