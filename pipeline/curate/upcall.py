"""How a stage in a throw-away process asks the worker that it belongs to; None everywhere else.

The child (`child`) sets it: a stage knows nothing of pipes, as it knows nothing of Ray.
"""

from collections.abc import Callable

ask: Callable[[bytes], bytes] | None = None
"""Sends a question to `Stage.answer` of the same stage in the worker, and returns what that answered. Thread-safe."""
