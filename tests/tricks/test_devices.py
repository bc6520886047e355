"""Every trick computes where its batch lives, and no step waits for the device.

A GPU is not needed to see this. `Remote` tensors say that they live on torch's `meta` device, carry their
values on the CPU, and refuse, as a GPU would, to meet a tensor of the host in one operation. The run on
this pretended device must give the same bits as a run on the CPU, since it does the same operations.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from harness import rng
from harness.data.batches import Loader
from harness.training import assemble, stages
from harness.training.evaluate import predict_all
from harness.training.execute import execute, train_stages
from harness.training.place import Place
from harness.tricks import registry

AWAY = torch.device("meta")

COPIES = ("aten::copy_", "aten::_to_copy")
HOST_INDEX = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_")
"""A GPU takes an index from the host, at the price of a transfer."""
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2")
"""Their results, or the shapes of these, are needed on the host."""

OTHER_KERNELS = {
    "mixed_precision": "autocast has no rules for meta, so everything stays float32",
    "group_norm": "torch 2.11 brings images of other devices than the CPU out of channels_last",
}
"""Tricks whose operations depend on what a tensor says of its device."""


class Mixed(Exception):
    """Tensors, or a tensor and a generator, of two devices in one operation."""


class Remote(Tensor):
    """A tensor of the pretended device."""

    @staticmethod
    def __new__(cls, held):
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=AWAY,
        )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, None)


def is_away(device):
    return device is not None and torch.device(device).type == AWAY.type


def compute(func, args, kwargs, device):
    """Do one operation on the CPU, after the checks that a GPU would make."""
    name, leaves = func._schema.name, tree_leaves((args, kwargs))
    tensors = [t for t in leaves if isinstance(t, Tensor)]
    here = [t for t in tensors if not isinstance(t, Remote) and t.dim() > 0]
    away = [t for t in tensors if isinstance(t, Remote)]
    makes_away = is_away(kwargs.get("device"))
    leaves_device = bool(away) and (
        (name == "aten::_to_copy" and "device" in kwargs and not makes_away)
        or (name == "aten::copy_" and not isinstance(args[0], Remote))
    )
    if device is not None:
        for generator in (x for x in leaves if isinstance(x, torch.Generator)):
            # What asks a generator of the pretended device where it lives is told a lie: it is a CPU's.
            makes_away |= name == "aten::rand" and device.owns(generator)
            if device.owns(generator) != (bool(away) or makes_away):
                raise Mixed(f"{name} draws from a generator of another device")
        device.note(name, args, away, makes_away, leaves_device)
    if here and away and name not in (*COPIES, *HOST_INDEX):
        raise Mixed(f"{name} meets {[tuple(t.shape) for t in here]} of the host")
    back = {id(t.held): t for t in away}
    args, kwargs = tree_map(lambda x: x.held if isinstance(x, Remote) else x, (args, kwargs))
    if makes_away:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*args, **kwargs)
    if leaves_device or not (away or makes_away):
        return out
    return tree_map(lambda x: back.get(id(x), Remote(x)) if isinstance(x, Tensor) else x, out)


class Accelerator(TorchDispatchMode):
    """While it is entered, tensors can be made on the pretended device. Counts what would make the host wait."""

    def __init__(self):
        super().__init__()
        self.seeds, self.waits, self.watching = set(), Counter(), False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, self)

    def owns(self, generator):
        return generator.initial_seed() in self.seeds  # the object itself is another one in each dispatch

    def note(self, name, args, away, makes_away, leaves_device):
        if not self.watching:
            return
        if name in WAITS and away:
            self.waits[name] += 1
        if name in COPIES and not isinstance(args[name == "aten::copy_"], Remote) and (away or makes_away):
            self.waits["to the device"] += 1
        if leaves_device:
            self.waits["to the host"] += 1
        if name in HOST_INDEX and away:
            index = [t for t in args[1] if t is not None]
            self.waits["mask as index"] += any(t.dtype is torch.bool for t in index)
            self.waits["index of the host"] += any(not isinstance(t, Remote) for t in index)


class Python(TorchFunctionMode):
    """What torch settles before it dispatches."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == Tensor.is_meta.__get__:
            return False  # nn.init leaves meta tensors as they are
        if func is torch.tensor and is_away(kwargs.get("device")):
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(AWAY)
        if func is Tensor.new_tensor and isinstance(args[0], Remote):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(AWAY)
        if func is Tensor.tolist and isinstance(args[0], Remote):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


@pytest.fixture
def accelerator(monkeypatch):
    """The pretended device, which counts waits from an epoch's second batch to its last."""
    device = Accelerator()
    stream, epoch, autocast = rng.torch_stream, Loader.epoch, torch.autocast

    def stream_of(seed, purpose, where="cpu"):
        generator = stream(seed, purpose)
        if is_away(where):
            device.seeds.add(generator.initial_seed())
        return generator

    def watched(loader, *args):
        for i, batch in enumerate(epoch(loader, *args)):
            device.watching = i > 0
            yield batch
        device.watching = False

    monkeypatch.setattr(rng, "torch_stream", stream_of)
    monkeypatch.setattr(Loader, "epoch", watched)
    monkeypatch.setattr(torch, "autocast", lambda kind, **k: autocast("cpu" if is_away(kind) else kind, **k))
    fused = sys.modules[torch.optim.Optimizer.__module__]  # torch.optim hides its own modules
    monkeypatch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: ["cpu", AWAY.type])
    # Inference tensors of a wrapper class lose their class.
    for module in (assemble, stages):
        monkeypatch.setattr(module, "predict_all", torch.no_grad()(predict_all.__wrapped__))
    swap = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield device
    torch.__future__.set_swap_module_params_on_conversion(swap)


def done(spec, folder, device="cpu"):
    place = Place(data_root=Path("unused-by-digits"), device=device, stages_dir=folder)
    train_stages(spec, place)
    return execute(spec, "devices", place).row


def away(device, spec, folder):
    with device, Python():
        return done(spec, folder, AWAY.type)


@pytest.mark.parametrize("name", [None, *sorted(registry.builtin())])
def test_a_trick_computes_on_the_runs_device_and_no_step_waits_for_it(name, accelerator, small_spec, tmp_path):
    spec = small_spec(*([name] if name else []))
    expected = done(spec, tmp_path)
    row = away(accelerator, spec, tmp_path)

    assert (row["status"], row["reason"]) == (expected["status"], expected["reason"])
    if name in OTHER_KERNELS:
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=0.02)
    else:
        assert row.get("test_digest") == expected.get("test_digest")
    assert +accelerator.waits == {}


def test_the_pretended_device_refuses_what_a_gpu_refuses(accelerator):
    """Or the test above would prove nothing."""
    here = torch.ones(2)
    with accelerator, Python():
        there = here.to(AWAY)
        with pytest.raises(Mixed, match="meets"):
            there + here
        with pytest.raises(Mixed, match="generator"):
            torch.rand(2, generator=torch.Generator(), device=AWAY)
        accelerator.watching = True
        assert float((there + 1).sum()) == 4
        assert there[there > 0].shape == (2,)
        assert there.cpu().tolist() == [1, 1]
        torch.tensor([1.0], device=AWAY)
    waits = ("aten::_local_scalar_dense", "mask as index", "to the host", "to the device")
    assert all(accelerator.waits[wait] == 1 for wait in waits), accelerator.waits
