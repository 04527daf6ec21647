"""A fleet of gateways and endpoints in simulated time, with the policy code of the gateway itself.

`policies`, `gateway_model` and `server_model` are the parts, `fleet` puts them together, `scenarios` says
what goes wrong, `__main__` runs them all and writes docs/simulation.md, `plots` draws.
"""
