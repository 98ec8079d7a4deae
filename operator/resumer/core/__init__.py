"""The decisions: pure functions and frozen values, without clock, chance or I/O.

What time it is and what number was drawn are arguments. Services gather what a decision needs, ask
here, and act on the answer; adapters use the codecs. Nothing in here knows kopf or a client.
"""
