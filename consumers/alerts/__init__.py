"""Alerts: rules, what they say of the facts, and what becomes of it.

`rules` declares the kinds and `rule_file` reads a file of them; `facts` is what they judge, `judge` (with
`rhythm`) the judgement, `engine` what follows from it over time: all pure. `reading` has the facts from the
read models, `alerter` keeps the state and the outbox, `outbox` and `webhook` deliver.
"""
