"""Tests of `resumer.cli`."""

from __future__ import annotations
