import torch
import torch.nn as nn


class Detector(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.SiLU())
        self.neck = nn.Conv2d(width, 8, 1)
        self.detect = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return self.detect(torch.relu(self.neck(self.stem(x))))


class FeatureTap:
    def __init__(self, layer):
        self.value = None
        layer.register_forward_hook(self._keep)

    def _keep(self, module, args, output):
        self.value = output


def build_optimizer(*models, lr=0.01, momentum=0.9, decay=5e-4):
    weights, norms, biases = [], [], []
    for model in models:
        for module in model.modules():
            for name, param in module.named_parameters(recurse=False):
                if name == "bias":
                    biases.append(param)
                elif isinstance(module, nn.BatchNorm2d):
                    norms.append(param)
                else:
                    weights.append(param)
    optimizer = torch.optim.SGD(biases, lr=lr, momentum=momentum, nesterov=True)
    optimizer.add_param_group({"params": weights, "weight_decay": decay})
    optimizer.add_param_group({"params": norms, "weight_decay": 0.0})
    return optimizer


def train(epochs=3):
    student, teacher = Detector(4), Detector(12)
    teacher.eval()
    tap_s, tap_t = FeatureTap(student.neck), FeatureTap(teacher.neck)
    optimizer = build_optimizer(student, teacher)
    for epoch in range(epochs):
        imgs, target = torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)
        preds = student(imgs)
        teacher(imgs)
        det_loss = nn.functional.smooth_l1_loss(preds, target)
        distill = nn.functional.mse_loss(tap_s.value, tap_t.value)
        loss = det_loss + 0.5 * distill
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, det_loss.item(), distill.item())


torch.manual_seed(10)
train()
