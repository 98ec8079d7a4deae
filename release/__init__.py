"""What a release is made of, and the checks that come before it: `python -m release`, `make dist`.

Everything is made from the tree and this environment, without a registry: the files of `dist/`,
which the workflow `.github/workflows/release.yaml` publishes. Nothing here is part of the operator.
"""
