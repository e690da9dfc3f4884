"""Azure confidential VMs: what is the same on AMD's and on Intel's CPUs.

The paravisor's envelope (Microsoft's "HCL report") and the virtual TPM's quote. That a report or
quote of the CPU is genuine is for the vendors' rooms to prove, which then ask here.
"""
