"""The API of the project: kinds, field bounds, outcomes, reasons and conditions.

Everything here is data and pure functions; it imports nothing of the project but `resumer.errors`.
The schemas in ``crds/`` state the same bounds for the API server; ``tests/e2e/test_crds.py`` proves
that both accept and refuse the same objects.
"""
