"""The checks of the decision chain, one function each; `decision.CHAIN` has their order and why.

A check either adds to what is known or stops the chain. Messages are for a person who reads
``kubectl describe``: they name the field or the object, what was found and what is wanted, and hold
no times, so that they do not flap.
"""
