"""Photometric redshift as a mixture of Gaussians."""

from broker.models.survey import photometry
from broker.models.survey.galaxies import photo_z
from broker.models.survey.heads import Mixture
from broker.models.survey.real_photoz import dc2, sdss_mgs
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.sidecar.product import Kind

ROW = Row(
    id="pz-mdn",
    summary="photometric redshift from broad-band magnitudes: a mixture of Gaussians",
    papers=(Paper("D'Isanto & Polsterer 2018", "A&A 609, A111"),),
    finding="mixtures give calibrated posteriors; a mild gain over methods that read features",
    kind=Kind.CATALOG,
    inputs=photometry.PHOTOMETRY,
    at_least=photometry.AT_LEAST,
    trunk=photometry.Photometry(width=64, depth=3),
    head=Mixture(components=4, estimate="median"),
    targets=(Target("redshift", low=0.0, high=3.0),),
    variants={
        "sim": Variant(photo_z, n=20_000, shares="pz-bins"),
        "sdss-mgs": Variant(
            sdss_mgs,
            real=True,
            training=Training(epochs=100, rate=4e-3, members=5),
            targets=(Target("redshift", low=0.0, high=0.3),),
        ),
        "dc2": Variant(dc2, real=True, training=Training(epochs=60, rate=4e-3, members=4)),
    },
    baselines=photometry.BASELINES,
    training=Training(epochs=30, rate=4e-3, members=2),
    judge="photo-z",
    augment=photometry.as_observed,
)
