"""The Helm chart and the manifests: what they render, and what becomes of it on an API server."""
