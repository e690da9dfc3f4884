"""Real confidential machines: where quotes and device reports come from.

===========  ===============================================================================
``tsm``      Linux's configfs-tsm, for Intel TDX and AMD SEV-SNP (Linux 6.7 and later)
``tdx``      ``/dev/tdx_guest`` and Intel's quote service, for older kernels
``sev``      ``/dev/sev-guest``, for older kernels
``dstack``   dstack's guest agent, with its event log and configuration
``azure``    Azure's virtual TPM and metadata service, by way of ``tpm``
``gpus``     NVIDIA GPUs, through NVML or NVIDIA's SDK
``machine``  a CPU and its devices as one machine
``find``     which of them this machine has
===========  ===============================================================================
"""

from teeverify.enclave.tee.find import find_machine, kernel_interfaces
from teeverify.enclave.tee.gpus import SdkGpus
from teeverify.enclave.tee.machine import Machine

__all__ = ["Machine", "SdkGpus", "find_machine", "kernel_interfaces"]
