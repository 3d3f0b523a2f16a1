"""A stand-in for Linear on this machine.

`server.linear_api()` gives a `LinearApi`: its `world` is the state, `people` act in it (and their acts send signed
webhooks), `faults` are what goes wrong next, and `requests` what was asked. `schema` checks GraphQL documents.
"""
