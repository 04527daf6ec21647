"""How many gateways and engines a rate needs, from what was measured."""
