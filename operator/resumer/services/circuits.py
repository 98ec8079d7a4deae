"""The circuit breakers that are known: the one place that says what is in force.

Filled by the watch and by `guarding`, which writes them. Who has to know when one changes (who is
held by it, what is measured) listens here, so that it does not matter whose change it was: this
process's, another operator's, or a person's who deleted the object.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from resumer.api import base
from resumer.core.breaker import Breaker

_REMEMBERED = 1024
"""How many deleted breakers are remembered, for the moment in which an answer may come late."""

Listener = Callable[[str, str, Breaker | None, Breaker | None], None]
"""Is told the namespace, the stage, and the breaker before and after; None where there is none."""


class BreakerStore:
    """The circuit breakers by namespace and stage, with the version to compare with."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str], tuple[Breaker, str]] = {}
        self._deleted: OrderedDict[tuple[str, str], str] = OrderedDict()
        """The versions with which objects were deleted: an older answer may still be under way."""
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Has a listener told of every change from now on."""
        self._listeners.append(listener)

    def get(self, namespace: str, stage: str) -> tuple[Breaker, str] | None:
        """The breaker of a stage, or None while it never failed."""
        return self._breakers.get((namespace, stage))

    def put(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Puts a breaker in force, stored in the cluster or not."""
        before = self._breakers.get((namespace, stage), (None, ""))[0]
        self._breakers[namespace, stage] = (breaker, version)
        self._tell(namespace, stage, before, breaker)

    def learn(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Takes in what is stored in the cluster, unless it is older than what is known.

        An object that was just created has no status yet: it tells the version to go on from, and
        nothing about a failure that could not be written into it.
        """
        deleted = self._deleted.get((namespace, stage))
        if deleted is not None and not base.newer(version, deleted):
            return
        self._deleted.pop((namespace, stage), None)
        known = self.get(namespace, stage)
        if known is not None and not known[1] and breaker == Breaker():
            self.put(namespace, stage, known[0], version)
        elif known is None or base.newer(version, known[1]):
            self.put(namespace, stage, breaker, version)

    def remove(self, namespace: str, stage: str, version: str) -> None:
        """Resets a breaker whose object was deleted; the version is that of its end."""
        known = self.get(namespace, stage)
        if known is not None and known[1] and base.newer(known[1], version):
            return  # it was created anew
        self._deleted[namespace, stage] = version
        if len(self._deleted) > _REMEMBERED:
            self._deleted.popitem(last=False)
        before = self._breakers.pop((namespace, stage), (None, ""))[0]
        self._tell(namespace, stage, before, None)

    def stored(self) -> dict[tuple[str, str], tuple[Breaker, str]]:
        """By namespace and stage, those that the API server has as well."""
        return {at: item for at, item in self._breakers.items() if item[1]}

    def of(self, namespace: str) -> Mapping[str, Breaker]:
        """The breakers of a namespace by stage."""
        return {
            stage: item[0] for (home, stage), item in self._breakers.items() if home == namespace
        }

    def _tell(
        self, namespace: str, stage: str, before: Breaker | None, after: Breaker | None
    ) -> None:
        if before != after:
            for listener in self._listeners:
                listener(namespace, stage, before, after)
