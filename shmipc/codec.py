"""How objects become bytes and bytes objects.

Bytes go as they are and never come here.  A codec is a pair ``(dumps, loads)``; the default is
pickle, with what multiprocessing has registered for sockets, connections and the like.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Codec", "find_codec"]

Dumps = Callable[[Any], bytes]
Loads = Callable[[bytes], Any]


class Codec(NamedTuple):
    """A pair of functions; ``name`` stands in the segment, so that both ends agree."""

    name: str
    dumps: Dumps
    loads: Loads


class _Reducers:
    """multiprocessing's reducers over copyreg's, as one table, made anew when either has grown."""

    def __init__(self) -> None:
        self._sizes = (-1, -1)
        self._table: dict[type, Any] = {}

    def table(self, extra: dict[type, Any]) -> dict[type, Any]:
        sizes = (len(copyreg.dispatch_table), len(extra))
        if sizes != self._sizes:
            self._table = {**copyreg.dispatch_table, **extra}
            self._sizes = sizes
        return self._table


_reducers = _Reducers()


def _pickle(obj: Any) -> bytes:
    """As ``pickle.dumps``; once multiprocessing is imported, with its reducers."""
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _reducers.table(reduction.ForkingPickler._extra_reducers)
    pickler.dump(obj)
    return buffer.getvalue()


PICKLE = Codec("pickle", _pickle, pickle.loads)


def find_codec(codec: str | tuple[Dumps, Loads]) -> Codec:
    """The codec meant by the ``codec=`` of a queue."""
    if codec == "pickle":
        return PICKLE
    if isinstance(codec, tuple) and len(codec) == 2 and all(map(callable, codec)):
        return Codec("custom", *codec)
    raise ValueError(f'codec: expected "pickle" or a pair (dumps, loads), found {codec!r}')
