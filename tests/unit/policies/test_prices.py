"""The list of prices that comes with Errand."""

import pytest
import yaml

from policies.dialects import DIALECTS
from policies.pricelist import PACKAGED, ModelPrice, prices_for
from policies.prices import Price, Tokens, price_of, prices_from_json


def prices(dialect: str) -> tuple[Price, ...]:
    found = prices_from_json(prices_for(dialect, ()))
    assert found is not None
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_model_has_a_price_and_the_unknown_one_is_the_dearest(dialect: str) -> None:
    *known, unknown = prices(dialect)
    assert [price.known for price in known] == [True] * len(known)
    assert not unknown.known
    for price in known:
        worst = price.times
        assert unknown.input >= worst * price.input
        assert unknown.output >= worst * price.output


@pytest.mark.parametrize(
    ("dialect", "model", "output"),
    [
        ("anthropic", "claude-opus-5-5", 20), ("anthropic", "claude-opus-5", 25), ("anthropic", "claude-opus-4-1-20250805", 75),
        ("anthropic", "claude-opus-4-8", 25), ("anthropic", "claude-sonnet-4-5-20250929", 15), ("anthropic", "claude-haiku-5-5", 0.5),
        ("openai", "gpt-5.4-mini", 4.5), ("openai", "gpt-5.5-pro-2026", 180), ("openai", "gpt-5.5", 30), ("google", "gemini-3.1-pro", 12),
        ("openai", "o9", 180), ("google", "claude-opus-5", 180),
    ],
)  # fmt: skip
def test_the_first_pattern_that_fits_counts(dialect: str, model: str, output: float) -> None:
    found = price_of(prices(dialect), model)
    assert found is not None
    assert found.output == output


def test_a_row_that_comes_after_a_wider_one_would_never_count() -> None:
    rows = yaml.safe_load(PACKAGED.read_text())
    for dialect in DIALECTS:
        models = [row["model"] for row in rows[dialect]]
        for index, model in enumerate(models):
            sample = model.replace("[5-8]", "5").replace("[45]", "4").replace("[23]", "2")
            first = price_of(prices(dialect), sample.rstrip("*"))
            assert first is not None
            assert first.model == model, f"{dialect}: row {index} is hidden"


def test_what_a_call_costs() -> None:
    row = ModelPrice(model="*", input=4, output=20, cache_read=1, over=1000, times=2)
    call = Tokens(input=100, output=50, cache_read=200, cache_write=40, cache_write_hour=10)
    assert row.price().of(call) == pytest.approx((400 + 1000 + 200 + 200 + 80) / 1e6)
    assert row.price().of(Tokens(input=1001)) == pytest.approx(2 * 4 * 1001 / 1e6)
