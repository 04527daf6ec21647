"""How the gateway's CPU time a request grows with endpoints, models, payloads and connections."""
