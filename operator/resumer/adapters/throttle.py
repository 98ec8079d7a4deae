"""Whose turn it is to call the API server, for all calls of one process together.

`resumer.core.pacing` says when the next call may be made; here the calls that have to wait stand in
line: writes to Workflows and statuses first, then reads, then Events, each for a while. A call that
the API server turned away (429) is made again when its turn comes; everybody waits meanwhile, as
what is too much is the sum of all. Such a call was not carried out, so it may be made again
whatever it is.

No library does this: aiolimiter, which `events` uses, has a rate, but neither an order nor a pause.
Nor does the server do it all: priority and fairness bounds the calls under way, not their number.

What holds no place here: the renewals of a leader, which must not wait, and streams once they are
open. A call that takes longer than a few seconds leaves its place to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from resumer import errors, ports
from resumer.core import pacing

PATIENCE: Final = 20.0
"""Seconds that a call waits for its turns at most. Then whoever made it is told, and does something
else meanwhile: a status can say so, a place among the workers is free."""

LONGEST_PAUSE: Final = 60.0
"""Seconds that everybody pauses for one 429 at most; priority and fairness asks for 1 to 32."""

USUAL_PAUSE: Final = 1.0
"""Seconds, where a 429 does not say."""

LONG: Final = 5.0
"""Seconds after which a call that is under way holds no place any more. After a 429 there may be
only one, and a list that hangs would keep all writes waiting for a minute."""

_SHORTEST: Final = 0.001
"""Seconds between two looks at the line; of a shorter time a float may lose all."""

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


class Rank(enum.IntEnum):
    """Who comes first, the lowest."""

    WRITE = 1
    READ = 2
    EVENT = 3
    """Kubernetes Events: best effort."""


_GRACE: Final = {Rank.WRITE: 0.0, Rank.READ: 0.25, Rank.EVENT: 5.0}
"""For so many seconds those who come later go first: a line that never ends must not keep a read
for ever, on which a new request may wait."""


class Throttle:
    """Used inside one event loop."""

    def __init__(
        self,
        limits: pacing.Limits,
        clock: ports.Clock,
        *,
        on_held: Callable[[str, float], None],
        on_turned_away: Callable[[], None],
    ) -> None:
        """Nobody waits yet.

        Args:
            limits: What was set.
            clock: Time and chance.
            on_held: Called for each call that had to wait, with its rank in small letters and the
                seconds.
            on_turned_away: Called for each answer 429.
        """
        self._limits = limits
        self._clock = clock
        self._on_held = on_held
        self._on_turned_away = on_turned_away
        self._pace = pacing.start(limits, clock.monotonic())
        self._line: list[tuple[float, int, asyncio.Future[float]]] = []
        """Who waits, the next one first; the futures tell when their turn began."""
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._slow = False
        """Told already."""

    async def run(self, rank: Rank, call: Callable[[], Awaitable[_Result]]) -> _Result:
        """Makes a call in its turn, and again if the API server turned it away.

        Args:
            rank: Its place in the line.
            call: Makes it; called once for each turn.

        Raises:
            TransientError: With the status 429: it waited for `PATIENCE` seconds, or would have to.
                It was not carried out. And whatever the call raises.
        """
        patient_until = self._clock.monotonic() + PATIENCE
        while True:
            sent = await self._turn(rank, patient_until)
            try:
                with self._place():
                    result = await call()
            except errors.TransientError as error:
                if error.status != 429:
                    self._ended(sent)
                    raise
                self._turned_away(sent, error)
                if self._pace.paused > patient_until:
                    raise
            except BaseException:
                self._ended(sent)
                raise
            else:
                self._ended(sent)
                return result

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Holds a place among the calls under way, but not for as long as a call may hang."""
        left = False

        def leave() -> None:
            nonlocal left
            left = True
            self._pace = pacing.left(self._pace)
            self._call_up()

        timer = asyncio.get_running_loop().call_later(LONG, leave)
        try:
            yield
        finally:
            timer.cancel()
            if left:
                self._pace = pacing.came_back(self._pace)

    async def _turn(self, rank: Rank, patient_until: float) -> float:
        """Returns when the turn has come, and when that was."""
        now = self._clock.monotonic()
        if not self._line and pacing.wait(self._pace, self._limits, now) == 0:
            self._pace = pacing.began(self._pace, self._limits, now)
            return now
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (now + _GRACE[rank], next(self._numbers), turn))
        self._call_up()
        try:
            async with asyncio.timeout(patient_until - now):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came in the very same moment
                self._ended(turn.result())
            if isinstance(error, TimeoutError):
                raise self._held_back() from None
            raise
        finally:
            self._on_held(rank.name.lower(), self._clock.monotonic() - now)

    def _held_back(self) -> errors.TransientError:
        pause = self._pace.paused - self._clock.monotonic()
        return errors.TransientError(
            "not sent: too many calls to the API server wait for their turn",
            status=429,
            reason="HeldBack",
            retry_after=pause if pause > 0 else None,
            sent=False,
        )

    def _call_up(self) -> None:
        """Lets go whoever's turn it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._line:
            turn = self._line[0][2]
            if turn.done():  # given up
                heapq.heappop(self._line)
                continue
            now = self._clock.monotonic()
            seconds = pacing.wait(self._pace, self._limits, now)
            if seconds is None:
                return
            if seconds > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(max(seconds, _SHORTEST), self._call_up)
                return
            heapq.heappop(self._line)
            self._pace = pacing.began(self._pace, self._limits, now)
            turn.set_result(now)

    def _ended(self, sent: float) -> None:
        self._pace = pacing.ended(self._pace, self._limits, sent, self._clock.monotonic())
        if self._slow and self._pace.window >= self._limits.window:
            self._slow = False
            _log.info("calling the API server at full pace again")
        self._call_up()

    def _turned_away(self, sent: float, error: errors.TransientError) -> None:
        self._on_turned_away()
        asked = USUAL_PAUSE if error.retry_after is None else error.retry_after
        pause = min(asked, LONGEST_PAUSE)
        self._pace = pacing.turned_away(
            self._pace, sent, self._clock.monotonic(), pause, self._clock.random()
        )
        if not self._slow:
            self._slow = True
            _log.warning("the API server turns calls away: calling more slowly", pause=asked)
        self._call_up()


@dataclass(frozen=True, slots=True)
class Turns:
    """What a client sees of the throttle."""

    throttle: Throttle
    rank: Rank | None = None
    """Of all its calls; None: writes come before reads."""

    async def run(self, method: str, call: Callable[[], Awaitable[_Result]]) -> _Result:
        """Makes a call with this HTTP method, see `Throttle.run`."""
        rank = self.rank or (Rank.READ if method == "GET" else Rank.WRITE)
        return await self.throttle.run(rank, call)
