"""Photometric redshift from forty narrow bands, learned on simulations and tuned on few measured redshifts."""

from broker.models.survey import templates
from broker.models.survey.baselines import boosting
from broker.models.survey.galaxies import NARROW_BANDS, narrow, narrow_sky
from broker.models.survey.heads import Mixture
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Pretraining, Row, Target, Training, Variant
from broker.models.survey.scratch import scratch
from broker.models.survey.trunks_flux import Fluxes
from broker.sidecar.product import Input, Kind

NARROW, BROAD = NARROW_BANDS[:40], NARROW_BANDS[40:]

ROW = Row(
    id="pz-transfer-nb",
    summary="photometric redshift from forty narrow bands: a mixture, learned on simulations, tuned on a few galaxies",
    papers=(Paper("Eriksen et al. 2020", "MNRAS 497, 4565"),),
    finding="of faint galaxies half the scatter of template fitting; here no less scatter, but a third of its outliers",
    kind=Kind.CATALOG,
    inputs=(
        *(Input(f"flux_{band}", "nJy", required=False) for band in NARROW),
        *(Input(f"flux_err_{band}", "nJy", required=False) for band in NARROW),
        *(Input(f"mag_{band}", "mag", required=False) for band in BROAD),
        *(Input(f"mag_err_{band}", "mag", required=False) for band in BROAD),
    ),
    at_least=40,
    trunk=Fluxes(width=192, depth=4),
    head=Mixture(components=5, estimate="mode"),
    targets=(Target("redshift", low=0.0, high=1.3),),
    variants={"sim": Variant(narrow_sky, n=2_000)},
    pretraining=Pretraining(Variant(narrow, n=600_000), Training(epochs=30, batch=512, rate=3e-3)),
    training=Training(epochs=40, batch=64, rate=2e-4),
    baselines={
        "templates": templates.photo_z(
            NARROW_BANDS, templates.together(templates.fluxes(NARROW), templates.magnitudes(BROAD)), z_max=1.3, soft=0.1
        ),
        "scratch": scratch("pz-transfer-nb"),
        "boosting": boosting(),
    },
    judge="photo-z",
    augment=hide(
        (
            *(f"flux_{band}" for band in NARROW),
            *(f"mag_{band}" for band in BROAD),
            *(f"mag_err_{band}" for band in BROAD),
        ),
        whole=0.65,
    ),
)
