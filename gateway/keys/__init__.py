"""API keys: who may ask, for which models, and how often. Of a key's secret only the digest is stored."""
