"""Helpers that several tests of networks share."""

import torch


def close(a, b, atol=1e-5):
    return torch.allclose(a, b, rtol=1e-4, atol=atol * b.abs().max().item())


def expected_and_got(network, channels):
    size = network.image_size
    expected = "1, H, W" if network.any_size else f"1, {size}, {size}"
    got = rf"\(1, {channels}, {size}, {size}\)"
    return rf"expected an input of shape \(N, {expected}\), got {got}"
