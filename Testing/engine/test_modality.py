"""Telling a CT from an MR by its values, where nothing else says what a scan is."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from versemi.images import guess_modality


def test_ct_is_guessed_also_when_clipped_to_a_soft_tissue_window():
    rng = np.random.default_rng(1)
    body = rng.normal(40, 60, (40, 80, 80))
    body[:, :30] = -1000
    clipped = np.clip(body, -125, 275)
    for values in (body, clipped):
        assert guess_modality(sitk.GetImageFromArray(values.astype("float32"))) == "CT"


@given(scale=st.floats(0.5, 4000), standardised=st.booleans())
@settings(max_examples=30, deadline=None)
def test_mr_is_guessed_whatever_its_scale(scale, standardised):
    values = np.random.default_rng(2).gamma(2, scale, (12, 20, 20))
    if standardised:
        values = (values - values.mean()) / values.std()
    assert guess_modality(sitk.GetImageFromArray(values.astype("float32"))) == "MR"
