"""One training stage: a loss, its parameters, a number of steps; resumable, with progress, EMA and samples on the way.

Knows nothing of what is trained. Every step draws from a generator seeded by (seed, step), so a stage that was killed
and resumed sees the same batches as one that never stopped, and so do processes that share the work: each draws the
whole batch of a step and learns from its share. Checkpoints are safetensors files: no pickle.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file

from mmmrs_demo.errors import UserError

_Batch = TypeVar("_Batch", bound=Any)

CHECKPOINT_SECONDS = 120
SHEETS = 4
PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What passes may be calculated in, by the names that accelerate has for them."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return what a pass runs in; weights and optimiser stay in 32 bits whatever `PRECISIONS` it has."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@dataclass(frozen=True)
class Plan:
    """How long and how fast one stage learns.

    Attributes:
        steps: optimiser steps in all.
        batch: samples per step, over all processes and parts.
        rate: peak learning rate of AdamW; it rises over `warmup` steps and falls to 0 by a half cosine.
        ema: decay of the averaged weights that are kept at the end; 0 keeps the last ones.
        parts: forward and backward passes into which a process divides its share of a batch that memory cannot hold.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    ema: float = 0.999
    parts: int = 1


@dataclass(frozen=True)
class Share:
    """Which samples of a step's batch one pass of one process learns from."""

    index: int = 0
    count: int = 1

    def of(self, batch: _Batch) -> _Batch:
        """Return every `count`-th sample of what was drawn for the whole batch."""
        return batch[self.index :: self.count]


Loss = Callable[[int, np.random.Generator, Share], "torch.Tensor"]


class Stage:
    """Trains the parameters of named modules and keeps what is needed to go on after a kill."""

    def __init__(
        self,
        name: str,
        folder: Path,
        modules: Mapping[str, torch.nn.Module],
        plan: Plan,
        *,
        seed: int = 0,
        precision: str = "no",
        accelerator: Accelerator | None = None,
    ) -> None:
        """Prepare a stage, and load its checkpoint from `folder` where there is one.

        Args:
            name: of the checkpoint and in what is told.
            folder: of the checkpoint.
            modules: whose parameters learn, where they require a gradient; they lie on their device already.
            plan: how long and how fast.
            seed: of all batches and noise.
            precision: that of the loss, one of `PRECISIONS`: gradients of half floats are scaled, lest they vanish.
            accelerator: joins the processes that learn together; None for this one alone.

        Raises:
            UserError: the batch cannot be shared equally.
        """
        self.name, self.plan, self.seed, self.accelerator = name, plan, seed, accelerator
        self.processes: int = accelerator.num_processes if accelerator else 1
        self.process: int = accelerator.process_index if accelerator else 0
        if plan.batch % (self.processes * plan.parts):
            raise UserError(
                f"A batch of {plan.batch} cannot be shared equally by {self.processes} processes in {plan.parts} parts."
            )
        self.file = folder / f"{name}.safetensors"
        self.parameters = {
            f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters() if p.requires_grad
        }
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if plan.ema else {}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
        )
        device = next(iter(self.parameters.values())).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.step = 0
        if self.file.is_file():
            self._resume()

    def train(
        self,
        loss: Loss,
        sample: Callable[[int], None] | None = None,
        told: Callable[[int, float], None] = lambda *_: None,
        sheets: int | None = None,
    ) -> None:
        """Run the remaining steps, then leave the averaged weights in the modules.

        Args:
            loss: called with the step, a generator that is the same in every process, and the share of the batch to
                learn from; returns a scalar to minimise, the mean over the share.
            sample: called with the step on the way, to draw a sample sheet with the averaged weights.
            told: called with the step and the mean loss of the last ones, whenever progress is shown.
            sheets: how often `sample` is called, the last time at the end; None for `SHEETS` times.
        """
        sheets = SHEETS if sheets is None else sheets
        every = max(1, self.plan.steps // sheets) if sheets else 0
        started, saved, first, recent = time.monotonic(), time.monotonic(), self.step, []
        while self.step < self.plan.steps:
            recent.append(self._learn(loss))
            self.step += 1
            self._update_average()
            if self.step % 50 == 0 or self.step == self.plan.steps:
                told(self.step, float(np.mean(recent)))
                self._tell(float(np.mean(recent)), (time.monotonic() - started) / (self.step - first))
                recent.clear()
            if time.monotonic() - saved > CHECKPOINT_SECONDS or self.step == self.plan.steps:
                self._save()
                saved = time.monotonic()
            if sample and every and self.process == 0 and self.step % every == 0:
                self._swap()
                sample(self.step)
                self._swap()
        self._swap()

    def _learn(self, loss: Loss) -> float:
        """Take one step and return its loss over the whole batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate * self._schedule()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for part in range(self.plan.parts):
            rng = np.random.default_rng((self.seed, self.step))
            torch.manual_seed(int(rng.integers(2**62)))
            value = loss(self.step, rng, Share(self.process * self.plan.parts + part, self.processes * self.plan.parts))
            self.scaler.scale(value / self.plan.parts).backward()
            total = total + value.detach().cpu() / self.plan.parts
        if self.accelerator and self.processes > 1:
            for parameter in self.parameters.values():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
            total = self.accelerator.reduce(total.to(self.accelerator.device), "mean")
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(total)

    def _tell(self, loss: float, pace: float) -> None:
        if self.process == 0:
            left = pace * (self.plan.steps - self.step) / 60
            told = f"step {self.step}/{self.plan.steps}, loss {loss:.4f}, {self.plan.batch / pace:.1f} samples/s"
            print(f"{self.name}: {told}, {left:.0f} min left", file=sys.stderr, flush=True)

    def _schedule(self) -> float:
        if self.step < self.plan.warmup:
            return (self.step + 1) / self.plan.warmup
        return 0.5 + 0.5 * math.cos(math.pi * self.step / self.plan.steps)

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average:
            decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the learning weights and their average."""
        for name, mean in self.average.items():
            live = self.parameters[name].clone()
            self.parameters[name].copy_(mean)
            mean.copy_(live)

    def _save(self) -> None:
        if self.process > 0:
            return
        tensors = {f"live.{n}": p.detach() for n, p in self.parameters.items()} | {
            f"mean.{n}": p for n, p in self.average.items()
        }
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value.detach()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".part")
        metadata = {"step": json.dumps(self.step), "scaler": json.dumps(self.scaler.state_dict())}
        save_file({n: t.contiguous() for n, t in tensors.items()}, temporary, metadata=metadata)
        temporary.replace(self.file)

    @torch.no_grad()
    def _resume(self) -> None:
        with safe_open(self.file, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            self.step = json.loads(file.metadata()["step"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(json.loads(file.metadata()["scaler"]))
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"live.{name}"])
            if self.average:
                self.average[name].copy_(tensors[f"mean.{name}"])
            if f"adam.step.{name}" in tensors:  # there is none for what has had no gradient yet
                # The fused optimiser goes through memory: moments must lie there as their parameter does.
                moments = {
                    key: torch.empty_like(parameter).copy_(tensors[f"adam.{key}.{name}"])
                    for key in ("exp_avg", "exp_avg_sq")
                }
                self.optimizer.state[parameter] = {"step": tensors[f"adam.step.{name}"], **moments}
        print(f"{self.name}: resumed at step {self.step}", file=sys.stderr, flush=True)
