"""What the package offers in Python: trained networks, and one clear line for usual mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets.errors import UserError
from tests.fake_run import IMAGES, NAMES, direct_logits, fake_run, softmax


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir, and the probabilities that its network has for IMAGES."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    state = fake_run(workdir, data__mean=(0.5, 0.4, 0.3), data__std=(0.2, 0.3, 0.4))
    return workdir, softmax(direct_logits(workdir, state, IMAGES))


@pytest.fixture(scope="module")
def model():
    return jaxnets.create_model("se_resnet", se="none", num_blocks=(1,), num_channels=1)


def test_a_trained_network(run):
    workdir, p = run
    net = jaxnets.load(str(workdir))
    assert (net.class_names, net.image_size) == (NAMES, 32)
    np.testing.assert_allclose(net.predict_proba(IMAGES), p, atol=1e-6)
    np.testing.assert_array_equal(net.predict(IMAGES), p.argmax(1))
    for layout in (IMAGES.transpose(0, 3, 1, 2), IMAGES.transpose(0, 3, 1, 2).reshape(17, -1)):
        np.testing.assert_array_equal(net.predict(layout, batch_size=5), p.argmax(1))
    np.testing.assert_array_equal(net.predict(IMAGES[:1]), p[:1].argmax(1))
    mirrored = net.predict_proba(IMAGES[:, :, ::-1])
    views = np.exp((np.log(p) + np.log(mirrored)) / 2)  # the mean of the logits
    wanted = views / views.sum(1, keepdims=True)
    np.testing.assert_allclose(net.predict_proba(IMAGES, flip=True), wanted, atol=1e-6)
    np.testing.assert_array_equal(net.predict(IMAGES, tta="flip"), wanted.argmax(1))
    with pytest.raises(UserError, match="unknown tta 'mirror'"):
        net.predict(IMAGES, tta="mirror")
    assert repr(net) == f"Predictor({workdir} step 1 (se_resnet); 10 classes)"
    (member,) = net.members
    logits = member.model()(member.normalize(IMAGES))
    np.testing.assert_allclose(softmax(np.asarray(logits, np.float64)), p, atol=1e-5)


def test_normalisation_is_public():
    images = jaxnets.normalize(IMAGES, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(
        images, (IMAGES / 255 - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4), atol=1e-5
    )


def test_several_runs_are_an_ensemble(run, tmp_path):
    workdir, p = run
    state = fake_run(tmp_path / "b", 1)
    q = softmax(direct_logits(tmp_path / "b", state, IMAGES))
    net = jaxnets.load(workdir, tmp_path / "b", checkpoint=2)
    assert [member.step for member in net.members] == [2, 2]
    np.testing.assert_allclose(net.predict_proba(IMAGES), (p + q) / 2, atol=1e-6)


def test_calls_of_all_lengths_share_few_programs(run):
    net = jaxnets.load(run[0])
    for count in (1, 9, 12, 16):
        net.predict(IMAGES[:count])
    assert len(net.members[0]._programs) == 2


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES / 255, "images: pixels are float64, not uint8"),
        (IMAGES[:, :9], r"images: an array of shape \(17, 9, 32, 3\); known are \(N, 32, 32, 3\)"),
        (IMAGES[0], r"images: an array of shape \(32, 32, 3\)"),
        ([[1]], "images: the images are a list"),
    ],
)
def test_other_images_are_refused(run, images, says):
    with pytest.raises(UserError, match=says):
        jaxnets.load(run[0]).predict(images)


def test_what_cannot_be_loaded(run, tmp_path):
    with pytest.raises(UserError, match="name the workdir"):
        jaxnets.load()
    with pytest.raises(UserError, match="no checkpoint 207; there are steps 1, 2"):
        jaxnets.load(run[0], checkpoint=207)
    with pytest.raises(UserError, match=r"no config\.json there"):
        jaxnets.load(tmp_path)
    fake_run(tmp_path / "wide")
    text = (tmp_path / "wide" / "config.json").read_text()
    (tmp_path / "wide" / "config.json").write_text(text.replace('"float32"', '"float64"'))
    with pytest.raises(UserError, match="jax_enable_x64"):
        jaxnets.load(tmp_path / "wide")


def test_weights_of_a_step(run):
    model = jaxnets.load(run[0]).members[0].model()
    jaxnets.load_weights(model, run[0], checkpoint=2)
    with pytest.raises(UserError, match="no checkpoint 207; there are steps 1, 2"):
        jaxnets.load_weights(model, run[0], checkpoint=207)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES, r"takes floats, not uint8 images: jaxnets\.normalize"),
        (
            np.zeros((2, 3, 32, 32), np.float32),
            r"shape \(2, 3, 32, 32\), not \(N, H, W, 3\); .*NCHW",
        ),
        (np.zeros((32, 32, 3), np.float32), r"shape \(32, 32, 3\), not \(N, H, W, 3\)"),
        (np.zeros((2, 32, 32, 1), np.float32), r"shape \(2, 32, 32, 1\), not \(N, H, W, 3\)"),
    ],
)
@pytest.mark.parametrize("jit", [False, True])
def test_a_model_says_what_it_takes(model, images, says, jit):
    with pytest.raises(UserError, match=says):
        (nnx.jit(lambda m, x: m(x)) if jit else lambda m, x: m(x))(model, images)


@pytest.mark.parametrize("rngs", [0, jax.random.key(0)])
def test_streams_are_asked_for(rngs):
    with pytest.raises(UserError, match=r"give streams, such as rngs=nnx\.Rngs\(0\)"):
        jaxnets.create_model("se_resnet", rngs=rngs)


def test_what_the_package_shows():
    shown = dir(jaxnets)
    assert {"create_model", "load", "load_weights", "normalize", "port", "__version__"} <= set(
        shown
    )
    assert all(hasattr(jaxnets, name) for name in shown)
