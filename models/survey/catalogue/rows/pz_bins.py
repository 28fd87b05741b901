"""Photometric redshift as a histogram: a classifier of bins."""

from broker.models.survey import photometry
from broker.models.survey.galaxies import photo_z
from broker.models.survey.heads import Bins
from broker.models.survey.real_photoz import dc2, sdss_mgs
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.sidecar.product import Kind

ROW = Row(
    id="pz-bins",
    summary="photometric redshift from broad-band magnitudes: probabilities of bins",
    papers=(
        Paper("Bonnett 2015", "MNRAS 449, 1043"),
        Paper("Pasquet-Itam & Pasquet 2018", "A&A 611, A97"),
    ),
    finding="the softmax over bins is the posterior under the training set's prior",
    kind=Kind.CATALOG,
    inputs=photometry.PHOTOMETRY,
    at_least=photometry.AT_LEAST,
    trunk=photometry.Photometry(width=64, depth=3),
    head=Bins(bins=200, hidden=32, smoothing=1.0, estimate="median"),
    targets=(Target("redshift", low=0.0, high=3.0),),
    variants={
        "sim": Variant(photo_z, n=20_000),
        "sdss-mgs": Variant(
            sdss_mgs,
            real=True,
            training=Training(epochs=100, rate=4e-3, members=4),
            targets=(Target("redshift", low=0.0, high=0.3),),
        ),
        "dc2": Variant(dc2, real=True, training=Training(epochs=60, rate=4e-3, members=3)),
    },
    baselines=photometry.BASELINES,
    training=Training(epochs=30, rate=4e-3, members=2),
    judge="photo-z",
    augment=photometry.as_observed,
)
