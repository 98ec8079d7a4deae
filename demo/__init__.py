"""What Resumer does, to watch: `python -m demo`, or `make demo`.

A control plane on this machine, the real operator, and a play workflow with three gates. It is for
people, and for a test that it ends well; nothing of the operator depends on it.
"""

from __future__ import annotations
