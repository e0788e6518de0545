"""The commands behind ``aupipe``, a module a topic: parse, one call, print.

Heavy imports happen inside the functions.
"""
