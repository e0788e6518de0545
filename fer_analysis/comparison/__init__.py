"""Comparing networks by one explanation map per network and expression (Gaya-Morey et al., arXiv 2401.11835)."""
