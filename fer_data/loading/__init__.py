"""The parts of the loader: choice of rows (``plan``), reading (``fetch``, ``prefetch``, ``resident``), speed.

``aupipe.fer_data.loading.loader`` puts them together.
"""
