"""The vendors' endorsements: given by the caller, kept here, or fetched from each one's service."""
