"""How an endpoint is reached: its address, one GET after the other, and whose TLS key is there."""
