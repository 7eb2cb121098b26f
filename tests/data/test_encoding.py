import json

import numpy as np
import pytest

from tftjax.data.encoding import Scaler, apply_scaler, encode_categories, fit_categories, fit_scaler


def test_fit_and_apply_by_hand():
    values = np.array([[1.0, 10.0], [3.0, 10.0], [8.0, 40.0]])
    scaler = fit_scaler(values)
    np.testing.assert_allclose(scaler.center, [4.0, 20.0])
    np.testing.assert_allclose(scaler.scale, [np.sqrt(26 / 3), np.sqrt(200.0)])  # population, not sample
    scaled = apply_scaler(scaler, values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0)
    np.testing.assert_allclose(apply_scaler(scaler, np.array([[4.0, 34.0]])), [[0.0, 14 / np.sqrt(200.0)]])


def test_a_constant_column_is_centred_and_not_blown_up():
    # 0.1 summed 7 times is not 7 * 0.1: mean and standard deviation alone would not show the constancy.
    values = np.full((7, 1), 0.1)
    assert fit_scaler(values) == Scaler(np.array([0.1]), np.array([1.0]))
    np.testing.assert_array_equal(apply_scaler(fit_scaler(values), values), np.zeros((7, 1)))


@pytest.mark.parametrize(
    "values", [np.zeros((0, 2)), np.array([[1.0], [np.nan]]), np.array([[np.inf], [1.0]])]
)
def test_fit_refuses_what_has_no_moments(values):
    with pytest.raises(ValueError, match="finite"):
        fit_scaler(values)


def test_categories_by_hand():
    categories = fit_categories(np.array([3, 1, 3, 12]))
    assert categories == [1, 3, 12]
    assert json.loads(json.dumps(categories)) == categories
    encoded = encode_categories(np.array([12, 2, 1, 3, 0]), categories)
    np.testing.assert_array_equal(encoded, [3, 0, 1, 2, 0])  # 2 and 0 were not seen
    assert encoded.dtype == np.int32


def test_text_categories():
    categories = fit_categories(np.array(["us", "de", "us"], dtype=object))
    assert categories == ["de", "us"]
    np.testing.assert_array_equal(encode_categories(np.array(["us", "fr"], dtype=object), categories), [2, 0])


def test_robust_scaling_by_hand():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0], [100.0, 6.0]])
    scaler = fit_scaler(values, "robust")
    np.testing.assert_allclose(scaler.center, [3.0, 5.0])
    np.testing.assert_allclose(scaler.scale, [2.0 / 1.349, values[:, 1].std()])  # quartiles that meet
    assert fit_scaler(values[:, 1:], "none") == Scaler(np.zeros(1), np.ones(1))
