"""Radio galaxies of Fanaroff & Riley's two classes, from one image."""

from broker.models.survey.heads import Classes
from broker.models.survey.morphometry import on_images
from broker.models.survey.radio import fr_classes
from broker.models.survey.real_radio import frdeep, mirabest
from broker.models.survey.row import Paper, Row, Training, Unseen, Variant
from broker.models.survey.trunks_image import PolarCnn
from broker.sidecar.product import Input, Kind

ROW = Row(
    id="radio-fr",
    summary="radio galaxies that fade outwards (FR I) or end in hot-spots (FR II), from an image like FIRST's",
    papers=(Paper("Aniyan & Thorat 2017", "ApJS 230, 20"),),
    finding="a plain convolutional network tells the classes apart in about 95 % of the cases",
    kind=Kind.CUTOUT,
    inputs=(Input("image", unit="", shape=(1, -1, -1), pixel_scale_arcsec=1.8),),  # on any linear scale
    trunk=PolarCnn(),
    head=Classes(hidden=0, smoothing=0.1),
    classes=("FR I", "FR II"),
    variants={
        "mirabest": Variant(mirabest, real=True),
        "sim": Variant(fr_classes, n=6_000, training=Training(epochs=6, batch=64, rate=4e-3, decay=5e-3)),
    },
    baselines={"shapes + forest": on_images()},
    training=Training(epochs=40, batch=64, rate=4e-3, decay=5e-3, members=3, few=True),
    judge="classes",
    unseen={"frdeep": Unseen(frdeep, of="mirabest", real=True)},
)
