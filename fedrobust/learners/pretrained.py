"""Initial weights from a safetensors file: a run's model, or one network's, such as torchvision's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fedrobust.errors import UserError

__all__ = ["Backbone", "load_initial"]

#: Endings of files that Python's pickle writes, which can run any code when they are read.
_PICKLES = frozenset({".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin"})

#: Differences that a sentence names.
_NAMED = 3

_CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() for k, v in '
    "torch.load('FILE.pth', weights_only=True).items()}, 'FILE.safetensors')\""
)


@dataclass(frozen=True)
class Backbone:
    """A network's tensors under its own names, before any attention block stands in it.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        Parameters and running statistics without those of the last layer.
    last : frozenset of str
        The names of the last layer's, which belong to the classes at hand.
    """

    tensors: Mapping[str, Tensor]
    last: frozenset[str]

    @classmethod
    def of(cls, network: nn.Module) -> Backbone:
        """Return those of a network."""
        path = [p for p, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        named = _floating(network)
        last = frozenset(name for name in named if name.startswith(f"{path}."))
        return cls({name: tensor for name, tensor in named.items() if name not in last}, last)


def _read(file: str) -> dict[str, Tensor]:
    """Return a file's tensors by name.

    Raises
    ------
    UserError
        If there is no such file, it is a pickle, or no safetensors file.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(
            f"--init {file}: there is no such file; give a safetensors file, such as a run's "
            f"model.safetensors (nothing is downloaded)"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if path.suffix.lower() in _PICKLES or _begins_as_pickle(path):
            raise UserError(
                f"--init {file}: is a pickle, which could run any code and is not read; convert it where you "
                f"trust it: {_CONVERT}"
            ) from None
        raise UserError(f"--init {file}: is no readable safetensors file ({error})") from None


def _begins_as_pickle(path: Path) -> bool:
    """Tell whether a file begins as Python's pickle does, or as torch's archive of one."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(2)
    except OSError:
        return False
    return begin == b"PK" or begin[:1] == b"\x80"


@torch.no_grad()
def load_initial(
    file: str, networks: nn.ModuleList, backbones: Sequence[Backbone], frame: Tensor | None
) -> None:
    """Copy a file's weights into networks.

    Parameters
    ----------
    file : str
        Its names are those of a run's model, ``networks.0...``, or those of a single network, which every
        network then starts from, but for its last layer: that belongs to other classes.
    networks : nn.ModuleList
    backbones : sequence of Backbone
        Those of the networks.
    frame : Tensor or None
        The fixed classifier.

    Raises
    ------
    UserError
        If it cannot be read, or names or shapes differ.
    """
    given = _read(file)
    if any(name.startswith("networks.") for name in given):
        _check_frame(file, given.pop("frame", None), frame)
        own = {f"networks.{name}": tensor for name, tensor in _floating(networks).items()}
        _copy(file, given, own)
        return
    given = {name: tensor for name, tensor in given.items() if tensor.is_floating_point()}
    for backbone in backbones:
        _copy(file, {n: t for n, t in given.items() if n not in backbone.last}, backbone.tensors)


def _check_frame(file: str, saved: Tensor | None, frame: Tensor | None) -> None:
    """Refuse a model whose features point at another frame's columns."""
    if (saved is None) != (frame is None):
        raise UserError(
            f"--init {file}: its classifier is {'a linear layer' if saved is None else 'a fixed ETF'}; give "
            f"the --head that it was trained with"
        )
    if saved is not None and frame is not None and not torch.equal(saved, frame.cpu()):
        raise UserError(
            f"--init {file}: its fixed classifier is another one, which follows from the seed and the number "
            f"of classes; give the --seed and the data that it was trained with"
        )


def _floating(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and running statistics by name."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}


def _copy(file: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Copy tensors of the same names and shapes; `UserError` with what differs."""
    fitting = {name: _grey(t, own[name].shape) if name in own else t for name, t in given.items()}
    differences = [f"{name} is missing" for name in own.keys() - fitting.keys()]
    differences += [f"{name} is not in the model" for name in fitting.keys() - own.keys()]
    differences += [
        f"{name} is {_shape(t)}, the model's is {_shape(own[name])}"
        for name, t in fitting.items()
        if name in own and t.shape != own[name].shape
    ]
    if differences:
        more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        raise UserError(
            f"--init {file}: does not fit the model of these settings: "
            f"{'; '.join(sorted(differences)[:_NAMED])}{more}; give its --backbone, --networks, --head, "
            f"--attention and --image-size (torchvision's stems want more than 64 pixels)"
        )
    for name, tensor in own.items():
        tensor.copy_(fitting[name])


def _grey(weights: Tensor, wanted: torch.Size) -> Tensor:
    """Sum the first convolution's weights over the colours where the images are grey."""
    if weights.dim() == 4 and weights.shape[1] == 3 and wanted == (len(weights), 1, *weights.shape[2:]):
        return weights.sum(1, keepdim=True)
    return weights


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a number"
