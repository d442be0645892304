"""Full-size networks against diffusers and transformers, with seeded random weights that those libraries saved.

    python -m pytest -m parity tests/parity/test_stable_diffusion.py

Needs the `parity` extra, about 12 GB of memory and 9 GB of disk, and some minutes.
"""

import gzip
import importlib.util
import json
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("tests.neural.stable_diffusion.oracles")

from neural import load_sd15, load_vae
from neural.stable_diffusion import names
from neural.stable_diffusion.architecture import TextConfig, UNetConfig, VAEConfig
from neural.stable_diffusion.tokenizer import read_tokenizer
from tests.neural.stable_diffusion import make_golden, tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch, transformers

pytestmark = pytest.mark.parity

# Relative to the largest value, float32 on both sides.
FLOAT32 = 1e-4
TIMES = (1.0, 500.0, 999.0)
MAKERS = {
    "unet": lambda: diffusers.UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8
    ),
    "vae": lambda: diffusers.AutoencoderKL(**make_golden.FULL_VAE),
    "text_encoder": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**tiny.FULL_TEXT)),
}
CONFIGS = {"unet": UNetConfig(), "vae": VAEConfig(), "text_encoder": TextConfig()}


def seeded(part):
    """A module with random weights; norms and biases too, which would be the identity."""
    torch.manual_seed(len(part))
    module = MAKERS[part]().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def normal(name, *shape):
    return tiny.noise(name, shape)


def nchw(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def error(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


INPUTS = {
    "latents": lambda: normal("full latents", 1, 64, 64, 4),
    "states": lambda: normal("full states", 1, 77, 768),
    "pictures": lambda: np.clip(normal("full pictures", 1, 256, 256, 3) / 2, -1, 1),
    "small": lambda: normal("small latents", 1, 32, 32, 4),
    "tokens": lambda: np.array(
        [[49406, 320, 1125, 539, 320, 2368, *[49407] * 71], [49406, *range(500, 575), 49407]]
    ),
}


def answers(part, module):
    given = {name: make() for name, make in INPUTS.items()}
    with torch.inference_mode():
        if part == "unet":
            x, states = nchw(given["latents"]), torch.from_numpy(given["states"])
            return [nhwc(module(x, torch.tensor(t), states).sample) for t in TIMES]
        if part == "vae":
            mean = module.encode(nchw(given["pictures"])).latent_dist.mean
            return [nhwc(mean), nhwc(module.decode(nchw(given["small"])).sample)]
        return [module(torch.from_numpy(given["tokens"])).last_hidden_state.numpy()]


def ours(model):
    given = {name: make() for name, make in INPUTS.items()}
    return {
        "unet": [model.unet(given["latents"], t, given["states"]) for t in TIMES],
        "vae": [model.vae_encode(given["pictures"]), model.vae_decode(given["small"])],
        "text_encoder": [model.text_encoder(given["tokens"])],
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of modules saved by their own libraries, and what they answer."""
    folder, found = tmp_path_factory.mktemp("sd15"), {}
    for part in MAKERS:
        module = seeded(part)
        module.save_pretrained(folder / part)
        found[part] = answers(part, module)
    write_vocabulary(folder / "tokenizer")
    yield folder, found
    shutil.rmtree(folder)


def assert_same(model, found):
    for part, values in ours(model).items():
        for ours_, theirs in zip(values, found[part], strict=True):
            assert error(ours_, theirs) < FLOAT32, part
            print(part, error(ours_, theirs))


@pytest.mark.usefixtures("x32")
def test_folder(saved):
    folder, found = saved
    model = load_sd15(folder)
    assert_same(model, found)
    # The whole way from words to latents, from the same pieces.
    words = model.denoise(INPUTS["latents"](), 500.0, "a photo of a cat")
    states = model.text_encoder(model.tokenize("a photo of a cat"))
    noise = model.unet(INPUTS["latents"](), 500.0, states)
    alpha, sigma = (float(part(500.0)) for part in (model.process.alpha, model.process.sigma))
    assert error(words, np.asarray((INPUTS["latents"]() - sigma * noise) / alpha)) < FLOAT32


def single_file(folder):
    found = {}
    for part, config in CONFIGS.items():
        path = next((folder / part).glob("*.safetensors"))
        for name, value in load_file(path).items():
            ours_ = make_golden.prefixed(name) if part == "text_encoder" else name
            if "position_ids" in name:
                continue
            if part == "vae" and ".attentions.0.to_" in name and value.ndim == 2:
                value = value[:, :, None, None]
            found[names.PREFIXES[part] + names.original_names(config)[ours_]] = value
    return found


@pytest.mark.usefixtures("x32")
def test_single_file(saved, tmp_path):
    folder, found = saved
    path = tmp_path / "v1-5-pruned-emaonly.safetensors"
    tensors = single_file(folder)
    assert_map_is_diffusers_own(folder, tensors)
    save_file(tensors, path)
    del tensors
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    try:
        assert_same(load_sd15(path), found)
        assert_same_vae(load_vae(path), found)
    finally:
        path.unlink()


def assert_same_vae(vae, found):
    assert error(vae.decode(INPUTS["small"]()), found["vae"][1]) < FLOAT32


def assert_map_is_diffusers_own(folder, tensors):
    """diffusers' own conversion of our single file gives back what it saved."""
    from diffusers.loaders import single_file_utils as convert

    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    back = {
        "unet": convert.convert_ldm_unet_checkpoint(dict(state), config(folder, "unet")),
        "vae": convert.convert_ldm_vae_checkpoint(dict(state), config(folder, "vae")),
    }
    for part, converted in back.items():
        stored = load_file(next((folder / part).glob("*.safetensors")))
        assert converted.keys() == stored.keys()
        for name, value in stored.items():
            np.testing.assert_array_equal(converted[name].numpy().reshape(value.shape), value)


def config(folder, part):
    return json.loads((folder / part / "config.json").read_text())


# The tokenizer.


def write_vocabulary(folder: Path):
    """vocab.json and merges.txt as published, rebuilt from the byte-pair file that open-clip-torch carries."""
    from tests.neural.stable_diffusion.folders import alphabet

    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open-clip-torch is not installed")
    packed = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = alphabet()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(line.split()) for line in lines] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")


FIXED = (
    "",
    " ",
    "\n\t ",
    "a photo of a cat",
    "A PHOTO OF A CAT",
    "it's we'll they've I'm he'd don't",
    "3.14159 2026",
    "naïve café Ångström İstanbul ẞtraße",
    "e\u0301 combining",
    "ﬁ ligature ½ ² Ⅷ",
    "猫と犬の写真",
    "고양이 사진",
    "صورة قطة",
    "фото кота",
    "γάτα Σίσυφος ΣΑΣ",
    "תמונה של חתול",
    "แมว",
    "🐱🐶",
    "👩\u200d👩\u200d👧\u200d👦 family",
    "🇧🇪 flag",
    "a\u200bzero\u00a0width",
    "<|startoftext|>",
    "a <|endoftext|> b",
    "<|endoftext|>x",
    "#$%^&*()_+{}|:\"<>?~`-=[]\\;',./",
    "snake_case camelCase",
    "a" * 400,
    "word " * 100,
    "🐱" * 60,
    "!" * 300,
    "x\x00y",
    "tab\tand\r\nline",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "\ufeffbom",
    "ǆ ǅ Ǆ",
    "Ω \u2126",
)


def prompts():
    """200 prompts: words, digits, punctuation, many scripts, emoji, white space, over-long and empty."""
    rng = random.Random(0)
    words = [
        "photo",
        "cat",
        "car",
        "über",
        "猫",
        "🐱",
        "7",
        "42nd",
        "it's",
        "o'clock",
        "oil-painting",
        "HD,",
        "(blurry:1.3)",
    ]
    made = [" ".join(rng.choices(words, k=rng.randint(1, 90))) for _ in range(120)]
    spans = ((32, 0x7E), (0xA1, 0x2FFF), (0x1F300, 0x1FAFF))
    letters = lambda: "".join(chr(rng.randint(*rng.choice(spans))) for _ in range(rng.randint(1, 40)))
    return [*FIXED, *made, *(letters() for _ in range(200 - len(made) - len(FIXED)))]


def test_tokenizer(tmp_path):
    write_vocabulary(tmp_path / "tokenizer")
    texts = prompts()
    assert len(texts) == 200
    mine = read_tokenizer(tmp_path / "tokenizer")
    cat = mine("a photo of a cat")[0]
    np.testing.assert_array_equal(cat[:7], [49406, 320, 1125, 539, 320, 2368, 49407])
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    expected = theirs(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = mine(texts)
    assert sum("the rest is cut off" in str(one.message) for one in said) > 10
    for text, ours_, theirs_ in zip(texts, found, expected, strict=True):
        assert list(ours_) == list(theirs_), text
    # The single JSON file that recent releases save instead.
    theirs.save_pretrained(tmp_path / "saved")
    if (tmp_path / "saved" / "tokenizer.json").exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(read_tokenizer(tmp_path / "saved")(texts), found)
