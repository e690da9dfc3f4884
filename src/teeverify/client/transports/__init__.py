"""What HTTP libraries and SDKs are given in place of their own: only verified answers come back."""
