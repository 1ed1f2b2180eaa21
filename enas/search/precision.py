"""The precision of matrix products and convolutions. Sums, softmax, parameters and updates are always float32."""

import torch

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # on x86, x86 and Arm
TF32_CAPABILITY = (8, 0)  # the first NVIDIA GPUs that have it


def product_dtype(precision: str) -> torch.dtype | None:
    """Return the type that operands are rounded to, or None for none; "auto" is exact until a precision is chosen."""
    return torch.bfloat16 if precision == "bfloat16" else None


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in the precision of sums and softmax."""
    return x.float() if x.dtype == torch.bfloat16 else x


def use(precision: str, device: torch.device) -> None:
    """Let a GPU round the operands of float32 products to TF32, or not; a CPU has no such switch."""
    if device.type == "cuda":
        allowed = precision in ("tf32", "bfloat16")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def available(device: torch.device) -> list[str]:
    """Return the precisions that the device has instructions for, the exact one first."""
    capabilities = torch.cpu.get_capabilities()
    has_tf32, has_bfloat16 = False, any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)
    if device.type == "cuda":
        has_tf32 = torch.cuda.get_device_capability(device) >= TF32_CAPABILITY
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)  # emulation is many times slower
    return ["float32", *["tf32"] * has_tf32, *["bfloat16"] * has_bfloat16]
