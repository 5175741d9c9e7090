"""The weights of a network, read from a safetensors file that may be hostile.

The header of the file says what it holds; it is checked by itself, and compared with an outline of the network that the
config asks for, before any weight is read or anything of the config's sizes is allocated. The outline, on torch's meta
device, is given up once it has more tensors than the file.

Guarantees: a module that comes back has exactly the names, shapes, dtypes and values of the file, all of them finite;
anything else is a CorruptFileError in one line. Nothing is unpickled. Memory beyond the module itself is that of the
file, twice.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline import storage
from pipeline.foreign import check_size, shown, unique
from pipeline.storage import CorruptFileError, File, Store

M = TypeVar("M", bound=nn.Module)

_HEADER_BYTES = 1 << 20
"""A tensor takes about 100 bytes, so this is 10,000 tensors, of which a transformer of 100 layers has 900."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_AXES = 8
_SIZE = 1 << 48  # of one axis; more bytes than any store holds


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the header of a file says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


def load(store: Store, file: File, build: Callable[[], M]) -> M:
    """The network that `build` makes, with the weights of a committed file."""
    name = f"{store.url}/{file.path}"
    _check_fit(header(store, file), build, name)
    weights = _tensors(store, file)
    module = build()
    module.load_state_dict(weights)
    for key, value in module.state_dict().items():
        if not value.isfinite().all():
            _bad(name, f"{shown(key)} holds values that are not finite", "train the network again")
        if not torch.equal(value, weights[key]):  # two names of one tensor
            _bad(name, f"{shown(key)} differs from the tensor that it is tied to", "export it again")
    return module


def tensors(store: Store, file: File) -> dict[str, Tensor]:
    """All tensors of a committed file, by name."""
    header(store, file)
    return _tensors(store, file)


def header(store: Store, file: File) -> dict[str, Entry]:
    """What the tensors of a committed file are, by its first bytes alone; they cover it without gap or overlap."""
    name = f"{store.url}/{file.path}"
    check_size(store, file)
    length = int.from_bytes(storage.read_part(store, file, 0, min(8, file.size_bytes)), "little")
    if file.size_bytes < 8 or not 2 <= length <= min(_HEADER_BYTES, file.size_bytes - 8):
        _bad(name, f"it begins with a header of {length} bytes in a file of {file.size_bytes}")
    try:
        pairs = json.loads(storage.read_part(store, file, 8, 8 + length), object_pairs_hook=unique)
        pairs.pop("__metadata__", None)
        places = sorted((*_place(entry), key) for key, entry in pairs.items())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        _bad(name, f"its header cannot be read: {type(error).__name__} {error!s:.160}")
    end = 0
    for start, stop, key in places:
        if start != end:
            _bad(name, f"{shown(key)} begins at byte {start} of the data, and the tensor before it ends at {end}")
        end = stop
    if end != file.size_bytes - 8 - length:
        _bad(name, f"its tensors end at byte {end} of {file.size_bytes - 8 - length} bytes of data")
    return {key: Entry(dtype=_DTYPES[entry["dtype"]], shape=tuple(entry["shape"])) for key, entry in pairs.items()}


def _place(entry: dict[str, Any]) -> tuple[int, int]:
    """First byte and end of a tensor; ValueError unless that is what its dtype and shape need."""
    dtype, shape, (start, stop) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and 0 <= n < _SIZE for n in (*shape, start, stop)) or len(shape) > _AXES:
        raise ValueError(f"a shape {shown(shape)} between the bytes {shown([start, stop])}")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a {entry['dtype']} of shape {shown(shape)} between the bytes {start} and {stop}")
    return start, stop


class _AtMost(TorchFunctionMode):
    """Ends the making of a network of more than `left` tensors: a config can ask for a billion of them in one number.

    Nothing is initialised: on the meta device that is to no effect, but torch loads its compiler for it, which takes
    1.5 s.
    """

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func in (torch.empty, torch.ones, torch.zeros):  # so every layer makes its parameters
            self.left -= 1
            if self.left < 0:
                raise ValueError("it has more tensors than the file")
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _check_fit(held: dict[str, Entry], build: Callable[[], nn.Module], name: str) -> None:
    """CorruptFileError unless `build` makes a network of just these tensors; takes no memory for it."""
    try:
        with (
            torch.device("meta"),
            _AtMost(2 * len(held) + 64),
        ):  # twice: a tied tensor is made before it is tied
            needed = {key: Entry(dtype=t.dtype, shape=tuple(t.shape)) for key, t in build().state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # sizes that no tensor can have
        _bad(name, f"the network of the config beside it cannot be made: {error!s:.160}")
    for key in sorted(needed.keys() | held.keys()):
        if key not in needed:
            _bad(name, f"it holds {shown(key)}, which the network of the config beside it has not")
        if needed[key] != (there := held.get(key)):
            problem = f"holds {shown(key)} as {there}" if there else f"lacks {shown(key)}"
            _bad(name, f"it {problem}, and the config beside it asks for {needed[key]}")


def _tensors(store: Store, file: File) -> dict[str, Tensor]:
    try:
        return safetensors.load(storage.read_file(store, file))
    except SafetensorError as error:  # no case of it is known that `header` lets pass
        _bad(f"{store.url}/{file.path}", f"{error!s:.160}")


def _bad(name: str, what: str, mend: str = "export it again, or name another folder") -> NoReturn:
    raise CorruptFileError(f"{name} holds no weights that can be used: {what}; {mend}")
