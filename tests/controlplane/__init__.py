"""A real Kubernetes control plane with Argo Workflows, without Docker, for trying and for testing.

`build` compiles the pinned components once into a user cache, `launcher` starts them on free
loopback ports, `plugin` hands them to pytest, and `python -m tests.controlplane` to a person.

There is no kubelet, so pods are stored and never run. Workflows made of suspend, steps and dag
nodes need none, and those are all that resuming is about.
"""
