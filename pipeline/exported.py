"""What exported weights say of themselves: a config beside them, and a manifest, created last, that makes both visible.

Training writes both and generation reads them. What the `facts` are is the business of who trains and who generates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.manifest import Manifest

WEIGHTS, CONFIG, MANIFEST = "model.safetensors", "config.json", "manifest.json"
FILES = (WEIGHTS, CONFIG, MANIFEST)
"""All that an export consists of."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a network is built from, and of what it was trained; the config of an export."""

    kind: str
    """As `dvae`, `gpt` or `denoiser`."""
    model: Mapping[str, object]
    """Its config, as JSON types."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What else gives the weights their meaning, such as the digest of a tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Exported(Manifest):
    """The manifest of exported weights."""

    step: int = 0
    """Steps that they were trained for."""
    run_steps: int = 0
    """Steps of the whole run, of which they may be the best of an earlier one; 0: as many."""
