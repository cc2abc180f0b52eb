"""Chaos: real servers, several producers and projectors, faults at named points and at random times.

`make chaos` runs seeded rounds; test_chaos.py runs a few, and proves that the suite finds what is broken.
"""
