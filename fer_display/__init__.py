"""Figures, tables and pages: what people look at.

The lowest room: it imports nothing of ours and writes no file, but returns text and bytes. ``figures`` and ``charts``
draw with Matplotlib, ``overlays`` draws on photos, ``tables`` writes CSV, Markdown and aligned text, ``terminal``
prints with rich, ``pages`` renders ``templates/`` with Jinja2, ``blocks`` are the values that a page is made of.
"""
