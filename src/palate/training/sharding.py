"""Sharding of parameters, gradients and optimizer states over processes: FSDP2, by ``fully_shard``.

Checkpoints hold unsharded tensors, as a single process saves them, so that any number of processes can resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from palate.training.layers import layers_of


def shard_parameters(model: nn.Module, backbone: nn.Module, device: torch.device, processes: int) -> None:
    """Shard the parameters of a model over all processes, in place.

    Args:
        model: The model, the same in every process.
        backbone: Its backbone, each of whose layers is sharded, and gathered during its computation, as a unit.
        device: Device of the process.
        processes: Number of processes.
    """
    mesh = init_device_mesh(device.type, (processes,))
    for layer in layers_of(backbone):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole_state(state: Any) -> Any:
    """Gather the sharded tensors of a state dict; all processes must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor().detach().cpu()
    if isinstance(state, Mapping):
        return {name: whole_state(value) for name, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value) for value in state]
    return state


@torch.no_grad()
def set_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set the sharded weights of a model from unsharded ones; weights that are not given stay as they are."""
    for name, tensor in model.state_dict().items():
        if name in weights:
            tensor.copy_(_divided(weights[name], tensor))


def divided_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Shard the unsharded state of an optimizer as its parameters are."""
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    of = dict(zip(numbers, parameters, strict=True))
    kept = {
        number: {
            name: _divided(value, of[number])
            if isinstance(value, Tensor) and value.shape == of[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": kept}


def _divided(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
