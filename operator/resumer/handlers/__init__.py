"""kopf at the edge: handlers that parse a key and delegate, and the settings under which kopf runs.

Only ``on.event`` handlers: they cost no annotations, no finalizers and no writes, and a
level-triggered reconcile needs neither kopf's diffs nor its retries. Nothing is returned from a
handler, and none of them waits for a reconcile.
"""
