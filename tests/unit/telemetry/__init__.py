"""Tests of `resumer.telemetry`."""

from __future__ import annotations
