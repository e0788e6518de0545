"""The checker behind ``--jaxtyping-packages``: annotated arguments and array shapes; an int may stand for a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
