"""The parts of the loader: which rows (``plan``), reading them (``fetch``, ``slots``, ``resident``), the speed.

``aupipe.fer_data.loading.loader`` puts them together.
"""
