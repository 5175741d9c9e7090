"""Headers of safetensors files that nothing may be allocated for, and networks that are not those of the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import torch as safetensors
from torch import nn

from pipeline import weights
from pipeline.storage import CorruptFileError, Store

ENTRY = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


class Net(nn.Module):
    """A tied tensor, and a buffer that is stored."""

    def __init__(self, width: int = 3, layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.layers[0].weight = self.layers[-1].weight
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def packed(header: object, data: bytes = bytes(12)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def saved(**changes: Any) -> bytes:
    torch.manual_seed(1)
    state = {name: value.clone() for name, value in Net().state_dict().items()} | changes
    return safetensors.save({name: value for name, value in state.items() if value is not None})


def load(folder: Path, data: bytes, build: Callable[[], nn.Module] = Net) -> nn.Module:
    store = Store(str(folder))
    return weights.load(store, store.write("w.safetensors", data), build)


def test_a_network_comes_back_as_it_was_and_takes_the_random_numbers_it_always_took(tmp_path: Path) -> None:
    data = saved()
    torch.manual_seed(0)
    Net()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    found = load(tmp_path, data)
    assert torch.equal(torch.get_rng_state(), after)
    torch.manual_seed(1)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in Net().state_dict().items())
    assert found.layers[0].weight is found.layers[1].weight


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        bytes(8),
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        b"PK" + bytes(99),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(
        CorruptFileError, match="holds no weights that can be used: it begins with a header of .*; export"
    ):
        load(tmp_path, data)


@pytest.mark.parametrize(
    "header",
    [
        b"nonsense",
        [],
        b"[" * 10**5 + b"]" * 10**5,
        b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        {},
        {"a": None},
        {"a": {}},
        {"a": ENTRY | {"dtype": "F4096"}},
        {"a": ENTRY | {"dtype": []}},
        {"a": ENTRY | {"shape": [-3]}},
        {"a": ENTRY | {"shape": ["3"]}},
        {"a": ENTRY | {"shape": [2**62, 8]}},
        {"a": ENTRY | {"shape": [3] * 9}},
        {"a": ENTRY | {"shape": [3.0]}},
        {"a": ENTRY | {"shape": 3}},
        {"a": ENTRY | {"data_offsets": [-12, 0]}},
        {"a": ENTRY | {"data_offsets": [0, 2**50]}},
        {"a": ENTRY | {"data_offsets": [4, 16]}},
        {"a": ENTRY, "b": ENTRY},
        {"a": ENTRY | {"shape": [2], "data_offsets": [0, 8]}},
        b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2),
        {"__metadata__": {"a": "x" * (1 << 20)}, "a": ENTRY},
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(
        CorruptFileError, match=r"w\.safetensors holds no weights that can be used: .*; export it again"
    ):
        load(tmp_path, packed(header))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": torch.zeros(1)}, "it holds 'more', which"),
        ({"layers.0.bias": None}, "it lacks 'layers.0.bias', and"),
        ({"layers.0.bias": torch.zeros(4)}, r"as float32 \[4\], and the config beside it asks for float32 \[3\]"),
        ({"layers.0.bias": torch.zeros(3, 1)}, r"as float32 \[3, 1\]"),
        ({"count": torch.zeros(())}, "as float32"),
        ({"layers.0.bias": torch.zeros(3).double()}, "as float64"),
        ({"layers.0.bias": torch.full((3,), torch.nan)}, "not finite"),
        ({"layers.0.bias": torch.full((3,), -torch.inf)}, "not finite"),
        ({"layers.0.weight": torch.zeros(3, 3)}, "is tied to"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CorruptFileError, match=said):
        load(tmp_path, saved(**changes))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"layers": 10**9}, "it has more tensors than the file"),
        ({"width": 10**8}, r"asks for float32 \[100000000\]"),
        ({"width": 10**18}, "cannot be made"),
        ({"width": -1}, "cannot be made: .*negative"),
    ],
)
def test_a_network_of_absurd_sizes_is_refused_before_it_is_made(
    tmp_path: Path, sizes: dict[str, int], said: str
) -> None:
    with pytest.raises(CorruptFileError, match=said):
        load(tmp_path, saved(), lambda: Net(**sizes))


def test_a_file_of_another_size_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    file = store.write("w.safetensors", saved())
    (tmp_path / "w.safetensors").write_bytes(saved() + b"x")
    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(CorruptFileError, match="torn or altered"):
        weights.tensors(store, file)
    store.delete("w.safetensors")
    with pytest.raises(CorruptFileError, match="is committed but missing"):
        weights.tensors(store, file)
