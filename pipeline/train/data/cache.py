"""Values that several threads need: each is made once, whoever asks first, and those last used are kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Of all values, those last used whose sum of `size(value)` is at most `limit`; at least one."""

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit = limit
        self._size = size
        self.held = 0
        """Sum of the sizes of what is kept."""
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """The value of a key, from `make(key)` if it is not here; who comes while it is made waits for it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            theirs = self._making.get(key)
            if theirs is None:
                mine = self._making[key] = Future()
        if theirs is not None:
            return theirs.result()
        try:
            value = make(key)
        except BaseException as error:
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._values[key] = value
            self.held += self._size(value)
            while self.held > self._limit and len(self._values) > 1:
                self.held -= self._size(self._values.popitem(last=False)[1])
        mine.set_result(value)
        return value
