"""The paper's comparison: a grid of runs planned, trained, evaluated and put into tables and figures."""
