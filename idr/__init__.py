"""IDR: geometry, appearance and cameras learnt together (Yariv et al., NeurIPS 2020)."""
