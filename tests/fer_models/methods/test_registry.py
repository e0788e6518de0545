from __future__ import annotations

import pytest

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import METHODS, create_method, register


def test_names_are_unique_and_unknown_ones_get_a_suggestion() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register("cam")(METHODS["cam"])
    with pytest.raises(UserInputError, match=r"Unknown method 'cma'.*Did you mean 'cam'"):
        create_method("cma", create_backbone("test_resnet"), 7)


def test_an_option_outside_its_range_says_what_it_may_be() -> None:
    with pytest.raises(UserInputError, match=r"option kmax cannot.*above 0 and at most 1.*Got: 2"):
        create_method("wildcat", create_backbone("test_resnet"), 7, kmax=2.0)
    with pytest.raises(UserInputError, match=r"option layer cannot.*1 to 5, or 0 for the last.*Got: 6"):
        create_method("gradcam", create_backbone("test_resnet"), 7, layer=6)
