"""The loss of a batch and its gradient: by autograd, or by a formula.

Both functions take inputs, float32 (N, inputs), and labels, int64 (N,). They return the
mean negative log likelihood of the labels, in nats, as a tensor without dimensions, and
set `grad` of every parameter.
"""

import torch
from torch import Tensor, nn

from tasks.training.networks import Scratch


def autograd(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient by automatic differentiation; `grad` must be None before."""
    loss = nn.functional.nll_loss(network(inputs), labels)
    loss.backward()
    return loss.detach()


@torch.no_grad()
def analytic(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient of a single layer by its formula.

    The derivative of the loss by the scores is `softmax(scores) - one_hot`. With
    `scores = x @ W + b` and the mean over N images, the chain rule gives
    `dloss/dW = x.T @ (softmax - one_hot) / N`, and `dloss/db` is the sum of the rows of
    `(softmax - one_hot) / N`. (Bishop, Pattern Recognition, 2006, equation 4.109.)
    """
    assert isinstance(network, Scratch)
    log_probabilities = network(inputs)
    columns = labels[:, None]
    loss: Tensor = -log_probabilities.gather(1, columns).mean()
    difference = log_probabilities.exp_()
    difference.scatter_add_(1, columns, difference.new_full(columns.shape, -1))
    difference.div_(len(labels))
    # Transposed twice, for the memory layout of the weights.
    network.weights.grad = (difference.t() @ inputs).t()
    network.bias.grad = difference.sum(dim=0)
    return loss


METHODS = {"autograd": autograd, "analytic": analytic}
