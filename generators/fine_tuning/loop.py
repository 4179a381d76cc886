"""The training loop: on one device or several by Lightning Fabric, and resumable after any kill.

A checkpoint is a safetensors file (parameters and the optimizer's moments) that replaces the one
before by a rename. Each step draws its random numbers from the seed and its own number alone, so a
resumed training ends with the bits that an unbroken one would have.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from generators.files import replace_whole
from generators.fine_tuning.recipe import FineTuneError, Runtime

CHECKPOINT = "checkpoint.safetensors"
_CLIP = 1.0
_WARM_UP = 10  # steps


def make_fabric(runtime: Runtime) -> Any:
    """Lightning's Fabric for a runtime, launched; bf16 mixed precision on a GPU that has it.

    Raises:
        FineTuneError: There are no such devices.
    """
    from lightning.fabric import Fabric

    device = runtime.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = device == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    strategy = runtime.strategy
    if strategy == "auto" and runtime.devices > 1:
        strategy = "ddp"
    try:
        fabric = Fabric(
            accelerator=device,
            devices=runtime.devices,
            strategy=strategy,
            precision="bf16-mixed" if bf16 else "32-true",
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:  # Lightning's for what the machine lacks
        told = " ".join(str(error).split())
        raise FineTuneError(f"{runtime.devices} x {device} cannot be used: {told}") from error
    return fabric


def train(
    module: nn.Module,
    steps: int,
    learning_rate: float,
    draw: Callable[[torch.Generator], dict[str, Tensor | tuple[Tensor, ...]]],
    fabric: Any,
    seed: int,
    folder: Path | None = None,
    every: float = 20.0,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train those parameters of a module that want gradients, in place.

    Args:
        module: Its `forward` takes what `draw` gives and returns the mean loss.
        steps: Of the optimizer, those before a resumption counted.
        learning_rate: Of AdamW, reached after a short warm-up.
        draw: A batch of tensors, or tuples of them, from a source of randomness.
        fabric: See `make_fabric`.
        seed: Of all batches.
        folder: Of the checkpoint; one that is there is gone on from.
        every: Seconds between checkpoints.
        on_step: Called with the steps done and the loss, on the first device only.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=1e-3)
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    path = None if folder is None else folder / CHECKPOINT
    wrapped, stepper = fabric.setup(module, optimizer)
    start = 0 if path is None else _resume(path, dict(zip(names, trained, strict=True)), optimizer)
    wrapped.train()
    written = time.monotonic()
    for step in range(start, steps):
        state = np.random.SeedSequence([seed, step, fabric.global_rank]).generate_state(1)
        source = torch.Generator().manual_seed(int(state[0]))
        batch = {k: _moved(v, fabric.device) for k, v in draw(source).items()}
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / _WARM_UP)
        stepper.zero_grad()
        loss = wrapped(**batch)
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, stepper, max_norm=_CLIP, error_if_nonfinite=False)
        stepper.step()
        if not fabric.is_global_zero:
            continue
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
        if path is not None and time.monotonic() - written >= every and step + 1 < steps:
            _checkpoint(path, dict(zip(names, trained, strict=True)), optimizer, step + 1)
            written = time.monotonic()
    module.eval()
    if fabric.world_size > 1:
        fabric.barrier()


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(part, device) for part in value)
    return value.to(device)


def _checkpoint(path: Path, parameters: dict[str, nn.Parameter], optimizer: Any, step: int) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach().cpu().contiguous()
        moments = optimizer.state[parameter]
        for kind in ("exp_avg", "exp_avg_sq"):
            tensors[f"{kind}.{name}"] = moments[kind].detach().cpu().contiguous()
    content = save(tensors, {"told": json.dumps({"step": step})})
    replace_whole(path, content)


def _resume(path: Path, parameters: dict[str, nn.Parameter], optimizer: Any) -> int:
    """Read a checkpoint into parameters and optimizer; the steps done, 0 where there is none."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, "pt") as file:
            step = int(json.loads(file.metadata()["told"])["step"])
            read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        parts = {
            n: [read[f"{kind}.{n}"] for kind in ("parameter", "exp_avg", "exp_avg_sq")]
            for n in parameters
        }
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        # a rename is whole, so this is a disk's fault or another job's file: begin anew, and say so
        warnings.warn(f"{path} is no checkpoint of this training: {error}", stacklevel=2)
        return 0
    with torch.no_grad():
        for name, parameter in parameters.items():
            value, mean, square = parts[name]
            parameter.copy_(value)
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": mean.to(parameter),
                "exp_avg_sq": square.to(parameter),
            }
    return step
