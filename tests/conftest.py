"""What holds for every test: the marker of its folder, and Hypothesis without a time limit.

A layer is a folder below `tests/`; which layers exist is listed once, as `markers` in
pyproject.toml. Warnings are errors there as well.
"""

from __future__ import annotations

import os
import pathlib
import signal

import hypothesis
import pytest

TESTS = pathlib.Path(__file__).parent

# The cores are shared with other workers and a control plane: how long one example takes there
# says nothing about the code. What else the profile of this machine says (CI has one) stays. The
# unit layer has to take seconds; HYPOTHESIS_PROFILE=thorough looks harder.
hypothesis.settings.register_profile(
    "shared-cores",
    hypothesis.settings.get_profile(hypothesis.settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    max_examples=25,
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("shared-cores"), max_examples=1000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared-cores"))

# A shell lets what it runs in the background ignore Ctrl-C, and so would do all that tests start
# and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with its folder, so that `-m controlplane` and the like choose a layer.

    Raises:
        pytest.UsageError: the test lies outside the folders that are registered as markers.
    """
    layer = item.path.relative_to(TESTS).parts[0]
    layers = {line.partition(":")[0] for line in item.config.getini("markers")}
    if layer not in layers:
        raise pytest.UsageError(
            f"{item.nodeid}: '{layer}' is no layer of tests; pyproject.toml's `markers` names them"
        )
    item.add_marker(layer)
