"""The admin port: metrics, health, and what an operator may change while the gateway runs."""
