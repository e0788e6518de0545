"""AU maps: the codebook that says which action units belong to an expression and where, and what draws them."""
