"""The loss of a batch, and its gradient: by autograd, or by a formula derived by hand.

Both return the mean negative log likelihood of the labels, in nats, as a tensor
of no dimension, and leave the gradient in the parameters' `grad`.
"""

import torch
from torch import Tensor, nn

from tasks.training.networks import Scratch


def autograd(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Follow the operations backwards.

    Args:
        network: gives log-probabilities; its parameters have no gradient yet.
        inputs: float32 (N, inputs).
        labels: int64 (N,).
    """
    loss = nn.functional.nll_loss(network(inputs), labels)
    loss.backward()
    return loss.detach()


@torch.no_grad()
def analytic(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Use that the gradient of the loss by the scores is `softmax(scores) - one_hot`.

    With `scores = x @ W + b` and the mean over N images, by the chain rule,
    `dloss/dW = x.T @ (softmax - one_hot) / N` and `dloss/db` is the sum of the rows of
    `(softmax - one_hot) / N`. (Bishop, Pattern Recognition, 2006, equation 4.109.)

    Args:
        network: the layer from scratch.
        inputs: float32 (N, inputs).
        labels: int64 (N,).
    """
    assert isinstance(network, Scratch)
    log_probabilities = network(inputs)
    right = labels[:, None]
    loss: Tensor = -log_probabilities.gather(1, right).mean()
    difference = log_probabilities.exp_()
    difference.scatter_add_(1, right, difference.new_full(right.shape, -1))
    difference.div_(len(labels))
    # Transposed twice, so that it is laid out in memory like the weights.
    network.weights.grad = (difference.t() @ inputs).t()
    network.bias.grad = difference.sum(dim=0)
    return loss


METHODS = {"autograd": autograd, "analytic": analytic}
