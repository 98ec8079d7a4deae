"""Resumer: a Kubernetes operator that resumes suspended Argo Workflows.

The package lies in `operator/`, a folder that is never itself a package: `operator` is a module
of the standard library. `resumer.__main__` is the one entry point; everything else hangs below
`resumer.factory`, which does all the wiring. CONTRIBUTING.md shows the layers.
"""

from __future__ import annotations

__version__ = "0.1.0"
"""The release; the build reads it from here and nothing else states it."""
