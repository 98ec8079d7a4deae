"""Measures the operator against what is possible: `python -m tests.bench`, or `make bench`.

All contenders run against one control plane on this machine, in turns, so that what the machine
does besides weighs on all of them alike; what counts is how they compare within a run.

    operator  `resumer run`: WorkflowResumes are created, it opens the gates and writes the status
    floor     an asyncio loop that makes the same three writes, and knows beforehand what to write
    argo      `ResumeWorkflow` of Argo, which `argo resume` calls, from a Go program; two calls

Each is driven by the same loop (`driver`), which says what to resume next and sees gates open in
the one place where all of it shows: a watch of Workflows. Argo's controller does not run: how long
it takes to notice is the same for all, and would hide them.

`--events` measures two other contenders in the same way, from a webhook on, see `events`; `--scale`
something else: what it takes when thousands of workflows and requests wait, see `scale`.
"""
