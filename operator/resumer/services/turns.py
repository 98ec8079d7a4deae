"""Keys in line, where the namespaces take turns: one with very many does not hold up the others.

Within a namespace the keys come in the order in which they were put in. A namespace that has none
left loses its place, and gets the last one when it has some again. So between a key and its turn
stand those of its own namespace that came before, and at most as many of each other one.
All of it takes the same time, however many keys there are.
"""

from __future__ import annotations

from collections import OrderedDict

from resumer.core.keys import Key


class Turns:
    """A line of keys, each of them once."""

    def __init__(self) -> None:
        # Ordered ones throughout: to find its first item, a plain dict passes by all deleted ones.
        self._lines: OrderedDict[str, OrderedDict[Key, None]] = OrderedDict()
        """Of each namespace with keys its keys; the namespaces in the order of their turns."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: Key) -> bool:
        return key in self._lines.get(key.namespace, ())

    def add(self, key: Key) -> None:
        """Puts a key at the end; one that is in keeps its place."""
        line = self._lines.setdefault(key.namespace, OrderedDict())
        if key not in line:
            line[key] = None
            self._count += 1

    def discard(self, key: Key) -> None:
        """Takes a key out, wherever it is, if it is in."""
        if key in self:
            line = self._lines[key.namespace]
            del line[key]
            self._count -= 1
            if not line:
                del self._lines[key.namespace]

    def take(self) -> Key:
        """Takes out the first key of the namespace whose turn it is.

        Raises:
            KeyError: There is none.
        """
        namespace, line = self._lines.popitem(last=False)
        key, _ = line.popitem(last=False)
        self._count -= 1
        if line:
            self._lines[namespace] = line
        return key
