"""How often a key may ask: a rate with a burst, and a number a day, shared by all gateways through Redis."""
