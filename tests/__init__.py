"""Resumer's tests."""
