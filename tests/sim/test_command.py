"""`python -m tests.sim`: what bad weather only counts is told, and red."""

import pytest

from tests.sim.__main__ import main
from tests.sim.plants import PLANTS

(FLAP,) = (plant for plant in PLANTS if plant.name == "flap opens a new incident")
ROUGH = ["--seed", "7", "--hours", "0.003", "--rough"]


@pytest.mark.parametrize("wrong", [False, True])
def test_what_an_oracle_counted_in_a_rough_seed_is_printed_and_red(wrong, capsys):
    if wrong:
        with FLAP.planted():
            code = main(ROUGH)
    else:
        code = main(ROUGH)
    printed = capsys.readouterr().out
    assert code == int(wrong)
    assert ("postgres-down" in printed) is wrong
    assert (" s, green" in printed) is not wrong
    assert ("again: python -m tests.sim --seed 7" in printed) is wrong
