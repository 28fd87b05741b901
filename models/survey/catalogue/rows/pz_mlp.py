"""Photometric redshift with an error, from an ensemble of randomised networks."""

from broker.models.survey import photometry
from broker.models.survey.galaxies import photo_z
from broker.models.survey.heads import Point
from broker.models.survey.real_photoz import dc2, sdss_mgs
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.sidecar.product import Kind

ROW = Row(
    id="pz-mlp",
    summary="photometric redshift from broad-band magnitudes, with an error",
    papers=(
        Paper("Collister & Lahav 2004 (ANNz)", "PASP 116, 345"),
        Paper("Vanzella et al. 2004", "A&A 423, 761"),
        Paper("Sadeh, Abdalla & Lahav 2016 (ANNz2)", "PASP 128, 104502"),
    ),
    finding="historical: small networks match or beat template fitting where the training set is representative",
    kind=Kind.CATALOG,
    inputs=photometry.PHOTOMETRY,
    at_least=photometry.AT_LEAST,
    trunk=photometry.Photometry(width=64, depth=3),
    head=Point(beta=0.0),
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
