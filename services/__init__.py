"""What is deployed behind the gateway: one folder per backend."""
