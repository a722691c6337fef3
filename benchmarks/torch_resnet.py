"""PyTorch's ResNet-50 with a last stride of 1, for `benchmarks.step --torch`; of PyTorch alone, without torchvision."""

from collections.abc import Callable

import torch
from torch import nn


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
            nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
            nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes))
        self.shortcut = nn.Identity() if inputs == 4 * planes else nn.Sequential(
            nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu_(self.inside(x) + self.shortcut(x))


def network(depths: tuple[int, ...], classes: int) -> nn.Module:
    """The network, from frames `[N, 3, H, W]` to scores `[N, classes]`."""
    layers, inputs = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
                      nn.MaxPool2d(3, 2, 1)], 64
    for planes, depth, stride in zip((64, 128, 256, 512), depths, (1, 2, 2, 1), strict=True):
        for block in range(depth):
            layers.append(_Bottleneck(inputs, planes, stride if block == 0 else 1))
            inputs = 4 * planes
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def passes(frames: int, image_size: tuple[int, int], classes: int, depths: tuple[int, ...],
           threads: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Evaluation forward and training step over so many frames, channels last, in float32.

    A step is forward, cross entropy of every frame, gradients and Adam.
    """
    torch.set_num_threads(threads)
    model = network(depths, classes).to(memory_format=torch.channels_last)
    images = torch.rand(frames, 3, *image_size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(frames) % classes
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=5e-5)

    def forward() -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return forward, step
