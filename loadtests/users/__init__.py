"""Users of a gateway, one class a protocol: each sends real inputs and checks every answer."""
