"""Where a search may evaluate networks in bfloat16: twice as fast, to two or three digits."""

import torch

# Narrower networks spend their time between products, not in them.
LEAST_WIDTH = 256


def half_pays(device: torch.device, width: int) -> bool:
    """Whether layers of this width are multiplied faster in bfloat16 than in float32 there.

    Other processors compute bfloat16 too, but more slowly.
    """
    if width < LEAST_WIDTH:
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Not public, and not in every release: then float32 it is.
    units = (
        getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")
    )
    return any(has() for has in units if has is not None)
