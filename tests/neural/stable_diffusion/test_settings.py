"""Every setting of the configuration classes of diffusers and transformers, changed, and held to these libraries.

A setting that is honoured changes our answer as it changes theirs; a fixed one is refused by its name; one that
is irrelevant changes neither. Networks are tiny and random. Run by `make torch`.
"""

import dataclasses
import inspect
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from safetensors.numpy import save_file

from neural import CheckpointError, load_sd15
from neural.stable_diffusion import scheduler as module
from neural.stable_diffusion import settings
from neural.stable_diffusion.scheduler import CHAINS, read_scheduler
from tests.neural.stable_diffusion import pipelines, tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch, transformers
from tests.neural.stable_diffusion.pipelines import FLOAT32, PROMPT, SCHEDULER, X, clean, edited, far, make

pytestmark = [
    pytest.mark.torch,
    # Schedulers of diffusers hand tensors of torch to NumPy.
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

T = 500
# Seen: 3e-6. The tables of diffusers are float32 products of a thousand factors.
TABLE = 2e-4


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return make(tmp_path_factory.mktemp("vocabulary") / "tokenizer")


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "tiny"
    pipe.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def answer(folder):
    return load_sd15(folder).denoise(X, T, PROMPT)


def fixed(table):
    return sorted(name for name, setting in table.items() if setting.role == settings.FIXED)


def irrelevant(table):
    return sorted(name for name, setting in table.items() if setting.role == settings.IRRELEVANT)


def parameters(cls):
    return set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs", "args"}


# The list is whole.


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (settings.UNET_SETTINGS, parameters(diffusers.UNet2DConditionModel)),
        (settings.VAE_SETTINGS, parameters(diffusers.AutoencoderKL)),
        (settings.TEXT_SETTINGS, parameters(transformers.CLIPTextConfig)),
        (settings.TOKENIZER_SETTINGS, parameters(transformers.CLIPTokenizer) - {"vocab", "merges"}),
        (settings.PIPELINE_SETTINGS, parameters(diffusers.StableDiffusionPipeline)),
    ],
)
def test_every_parameter_of_the_configuration_classes_is_in_the_table(table, names):
    assert names <= set(table)


def schedulers():
    names = {name for name in dir(diffusers.schedulers) if name.endswith("Scheduler") and name[:4] != "Flax"}
    return sorted(name for name in names if isinstance(getattr(diffusers.schedulers, name), type))


@pytest.mark.parametrize("name", sorted(set(schedulers()) & set(CHAINS)))
def test_every_parameter_of_a_chain_of_betas_is_in_the_table(name):
    known = parameters(getattr(diffusers.schedulers, name))
    assert known <= set(settings.SCHEDULER_SETTINGS)
    defaults = {
        key: value.default
        for key, value in inspect.signature(getattr(diffusers.schedulers, name).__init__).parameters.items()
    }
    if known:  # a package that this scheduler needs may be missing
        assert {key: defaults[key] for key in CHAINS[name]} == CHAINS[name]


@pytest.mark.parametrize("name", sorted(set(schedulers()) - set(CHAINS)))
def test_schedulers_of_other_kinds_are_refused_by_name(name, folder, tmp_path):
    index = json.loads((folder / "model_index.json").read_text())
    path = edited(folder, tmp_path / "m", "model_index.json", scheduler=["diffusers", name])
    with pytest.raises(CheckpointError, match=f"the scheduler is {name}.*a chain of betas is needed"):
        load_sd15(path)
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]


# Settings that are honoured.


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"attention_head_dim": 4}),
        ("unet", {"attention_head_dim": [4, 4]}),
        ("unet", {"norm_num_groups": 16}),
        ("unet", {"use_linear_projection": True}),
        ("unet", {"block_out_channels": (32, 96)}),
        ("unet", {"layers_per_block": 2}),
        ("unet", {"layers_per_block": [1, 1]}),
        ("unet", {"cross_attention_dim": [64, 64]}),
        ("unet", {"transformer_layers_per_block": [1, 1], "only_cross_attention": [False, False]}),
        ("unet", {"act_fn": "swish"}),
        (
            "unet",
            {
                "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            },
        ),
        ("unet", {"in_channels": 6, "out_channels": 6}),
        ("text_encoder", {"num_attention_heads": 4}),
        ("text_encoder", {"num_hidden_layers": 2}),
        ("text_encoder", {"intermediate_size": 32}),
    ],
)
def test_honoured_settings_of_the_networks(part, changes, tmp_path):
    other = make(tmp_path / "tokenizer", **{part: changes})
    other.save_pretrained(tmp_path / "m")
    x = tiny.noise("latents", (2, 8, 8, other.unet.config.in_channels))
    found = load_sd15(tmp_path / "m").denoise(x, T, PROMPT)
    assert far(found, clean(other, T, x)) < FLOAT32


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_num_groups": 4},
        {"layers_per_block": 2},
        {"block_out_channels": (64, 32)},
        {"scaling_factor": 0.5},
    ],
)
def test_honoured_settings_of_the_autoencoder(changes, tmp_path):
    other = make(tmp_path / "tokenizer", vae=changes)
    other.save_pretrained(tmp_path / "m")
    model = load_sd15(tmp_path / "m")
    pictures = tiny.noise("pictures", (1, 16, 16, 3))
    with torch.no_grad():
        mean = other.vae.encode(torch.from_numpy(np.moveaxis(pictures, -1, 1).copy())).latent_dist.mean
        latents = torch.from_numpy(np.moveaxis(X[:1], -1, 1).copy())
        raw = other.vae.decode(latents / other.vae.config.scaling_factor).sample
    assert far(model.vae_encode(pictures), np.moveaxis(mean.numpy(), 1, -1)) < FLOAT32
    shown = np.clip(np.moveaxis(raw.numpy(), 1, -1) / 2 + 0.5, 0, 1)
    assert np.abs(np.asarray(model.pictures(X[:1])) - shown).max() < FLOAT32


def test_a_configuration_with_fewer_layers_leaves_out_the_last(pipe, folder, tmp_path):
    """How folders say "clip skip"; diffusers loads the first layers alone."""
    path = edited(folder, tmp_path / "m", "text_encoder/config.json", num_hidden_layers=2)
    other = transformers.CLIPTextModel.from_pretrained(path / "text_encoder").eval()
    ids = torch.from_numpy(load_sd15(folder).tokenize(PROMPT).astype(np.int64))
    with torch.no_grad():
        expected = other(ids)[0].numpy()
    found = load_sd15(path).encode(PROMPT).states
    assert far(found, expected) < FLOAT32
    assert far(found, pipelines.states(pipe).numpy()) > 0.01


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_clip_skip(skip, pipe, folder):
    found = load_sd15(folder, clip_skip=skip).denoise(X, T, PROMPT)
    assert far(found, clean(pipe, T, clip_skip=skip)) < FLOAT32


def test_clip_skip_out_of_range_is_refused(folder):
    for value in (-1, 3, 1.0, True):
        with pytest.raises(ValueError, match=r"clip_skip must be an integer in 0\.\.2, got"):
            load_sd15(folder, clip_skip=value)


def test_sample_size_as_a_list(folder, tmp_path):
    assert load_sd15(edited(folder, tmp_path / "a", "unet/config.json", sample_size=[8, 8])).state_shape == (
        8,
        8,
        4,
    )
    with pytest.raises(
        CheckpointError, match=r"sample_size must be a positive integer, the same along both sides"
    ):
        load_sd15(edited(folder, tmp_path / "b", "unet/config.json", sample_size=[8, 16]))


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "StableDiffusionPAGPipeline"])
def test_pipelines_with_the_same_networks(name, folder, answer, tmp_path):
    path = edited(folder, tmp_path / "m", "model_index.json", _class_name=name)
    np.testing.assert_array_equal(load_sd15(path).denoise(X, T, PROMPT), answer)


# Schedulers: the table of noise, and what is predicted.

SCHEDULER_CHANGES = [
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"beta_start": 0.002},
    {"beta_end": 0.02},
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"num_train_timesteps": 600},
    {"trained_betas": np.linspace(1e-4, 0.03, 1000).tolist()},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
]


@pytest.mark.parametrize("changes", SCHEDULER_CHANGES, ids=str)
def test_honoured_settings_of_the_scheduler(changes, folder, pipe, tmp_path):
    config = {**pipe.scheduler.config, **changes}
    other = diffusers.DDIMScheduler.from_config(config)
    other.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "scheduler_config.json").read_text())
    path = edited(folder, tmp_path / "m", "scheduler/scheduler_config.json", **saved)
    model, before = load_sd15(path), pipe.scheduler
    pipe.scheduler = other
    try:
        for t in (0, 7, 300, len(other.alphas_cumprod) - 1):
            # The rounded table of diffusers is divided by α where ε is predicted.
            assert far(model.denoise(X, t, PROMPT), clean(pipe, t)) < TABLE
            assert far(model.unet(X, t, model.encode(PROMPT)), pipelines.output(pipe, t)) < FLOAT32
    finally:
        pipe.scheduler = before


@pytest.mark.parametrize("name", sorted(set(schedulers()) & set(CHAINS)))
def test_every_scheduler_has_the_table_of_diffusers(name):
    """Also with what a file leaves out, and with zero SNR at the last step where there is such a setting."""
    cls = getattr(diffusers.schedulers, name)
    known = parameters(cls)
    if not known:
        pytest.skip("a package that this scheduler needs is missing")
    tried = [{}, SCHEDULER, {"beta_schedule": "squaredcos_cap_v2"}]
    if "rescale_betas_zero_snr" in known:
        tried.append({**SCHEDULER, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"})
    for options in tried:
        expected = np.asarray(cls(**options).alphas_cumprod, np.float64)
        noise = read_scheduler({"_class_name": name, **options})
        found = np.asarray(noise.process.alpha(np.arange(len(expected), dtype=float))) ** 2
        # Absolute too: with zero SNR the last ᾱ of some schedulers is zero.
        np.testing.assert_allclose(found, expected, rtol=TABLE, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("DDPMScheduler", "sigmoid"), ("DDPMScheduler", "laplace"), ("HeunDiscreteScheduler", "exp")],
)
def test_rarer_tables(name, schedule):
    expected = np.asarray(
        getattr(diffusers.schedulers, name)(beta_schedule=schedule).alphas_cumprod, np.float64
    )
    process = read_scheduler({"_class_name": name, "beta_schedule": schedule}).process
    np.testing.assert_allclose(np.asarray(process.alpha(np.arange(1000.0))) ** 2, expected, rtol=TABLE)


OTHER_SCHEDULER = {
    "algorithm_type": "sde-dpmsolver++", "clip_sample": True, "clip_sample_range": 2.0, "corrector_order": 1,
    "disable_corrector": [0], "dynamic_thresholding_ratio": 0.9, "euler_at_final": True,
    "final_sigmas_type": "sigma_min", "flow_shift": 3.0, "interpolation_type": "log_linear",
    "lambda_min_clipped": -5.1, "lower_order_final": False, "predict_x0": False, "predictor_order": 1,
    "sample_max_value": 2.0, "set_alpha_to_one": False, "shift_terminal": 0.1, "sigma_max": 10.0, "sigma_min": 0.1,
    "skip_prk_steps": True, "solver_order": 1, "solver_p": None, "solver_type": "bh1", "steps_offset": 2,
    "tau_func": None, "thresholding": True, "time_shift_type": "linear", "timestep_spacing": "trailing",
    "use_beta_sigmas": True, "use_exponential_sigmas": True, "use_karras_sigmas": True, "use_lu_lambdas": True,
}  # fmt: skip
# Refused by that scheduler itself.
NOT_FOR = {"UniPCMultistepScheduler": {"shift_terminal"}}


@pytest.mark.parametrize("name", sorted(set(schedulers()) & set(CHAINS)))
def test_irrelevant_settings_of_the_scheduler_change_no_level_of_noise(name):
    cls = getattr(diffusers.schedulers, name)
    names = parameters(cls) & set(irrelevant(settings.SCHEDULER_SETTINGS)) - NOT_FOR.get(name, set())
    base = {"_class_name": name, **SCHEDULER}
    expected = read_scheduler(base).process.log_snr_table
    for setting in sorted(names):
        changed = {setting: OTHER_SCHEDULER[setting]}
        if setting in ("solver_type", "algorithm_type") and name != "UniPCMultistepScheduler":
            changed = {setting: cls().config[setting]}
        np.testing.assert_array_equal(
            cls(**SCHEDULER, **changed).alphas_cumprod, cls(**SCHEDULER).alphas_cumprod
        )
        noise = read_scheduler({**base, **changed})
        assert noise.prediction == "epsilon"
        np.testing.assert_array_equal(noise.process.log_snr_table, expected)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_flow_sigmas", True),
        ("use_dynamic_shifting", True),
        ("timestep_type", "continuous"),
        ("variance_type", "learned_range"),
    ],
)
def test_fixed_settings_of_the_scheduler(setting, value, folder, tmp_path):
    path = edited(folder, tmp_path / "m", "scheduler/scheduler_config.json", **{setting: value})
    with pytest.raises(CheckpointError, match=f"scheduler: {setting} must be .* got {value!r}"):
        load_sd15(path)


def test_every_fixed_setting_of_the_scheduler_is_tried():
    assert set(fixed(settings.SCHEDULER_SETTINGS)) == {
        "use_flow_sigmas", "use_dynamic_shifting", "timestep_type", "variance_type",
    }  # fmt: skip


def test_zero_snr_needs_a_prediction_that_determines_x0(folder, tmp_path):
    path = edited(folder, tmp_path / "m", "scheduler/scheduler_config.json", rescale_betas_zero_snr=True)
    with pytest.raises(
        CheckpointError, match="rescale_betas_zero_snr needs prediction_type v_prediction or sample"
    ):
        load_sd15(path)
    assert load_sd15(path, prediction="v").config.prediction == "v"


def test_prediction_given_by_hand_replaces_what_the_file_says(folder, pipe):
    alpha_bar = float(pipe.scheduler.alphas_cumprod[T])
    expected = alpha_bar**0.5 * X - (1 - alpha_bar) ** 0.5 * pipelines.output(pipe, T)
    assert far(load_sd15(folder, prediction="v").denoise(X, T, PROMPT), expected) < FLOAT32
    with pytest.raises(ValueError, match="prediction must be one of epsilon, v, sample; got 'eps'"):
        load_sd15(folder, prediction="eps")


@pytest.mark.parametrize(
    ("marks", "metadata", "options"),
    [
        ({}, {"modelspec.prediction_type": "v"}, {}),
        ({"v_pred": np.zeros(0, np.float32)}, {}, {}),
        ({}, {}, {"prediction": "v"}),
        ({"v_pred": np.zeros(0, np.float32), "ztsnr": np.zeros(0, np.float32)}, {}, {}),
    ],
)
def test_single_files_that_predict_v(marks, metadata, options, pipe, folder, tmp_path):
    save_file(pipelines.single_file(folder) | marks, tmp_path / "v.safetensors", metadata)
    model = load_sd15(tmp_path / "v.safetensors", tokenizer=folder / "tokenizer", **options)
    zero = {"rescale_betas_zero_snr": "ztsnr" in marks}
    other = diffusers.DDIMScheduler(**SCHEDULER, prediction_type="v_prediction", **zero)
    found = pipelines.output(pipe, T)
    for t in (T, 999):
        alpha_bar = float(other.alphas_cumprod[t])
        expected = alpha_bar**0.5 * X - (1 - alpha_bar) ** 0.5 * (
            found if t == T else pipelines.output(pipe, t)
        )
        assert far(model.denoise(X, t, PROMPT), expected) < FLOAT32


# Settings that are fixed, and those that change nothing.

OTHER = {
    "unet": {
        "act_fn": "gelu", "addition_embed_type": "text", "attention_type": "gated", "center_input_sample": True,
        "class_embed_type": "timestep", "conv_in_kernel": 1, "conv_out_kernel": 1, "cross_attention_norm": "layer_norm",
        "downsample_padding": 0, "dual_cross_attention": True, "encoder_hid_dim": 8,
        "encoder_hid_dim_type": "text_proj",
        "flip_sin_to_cos": False, "freq_shift": 1, "mid_block_only_cross_attention": True, "mid_block_scale_factor": 2,
        "mid_block_type": "UNetMidBlock2D", "norm_eps": 1e-6, "num_attention_heads": 4, "num_class_embeds": 3,
        "only_cross_attention": [True, False], "resnet_out_scale_factor": 2.0, "resnet_skip_time_act": True,
        "resnet_time_scale_shift": "scale_shift", "reverse_transformer_layers_per_block": [1, 2],
        "time_cond_proj_dim": 4, "time_embedding_act_fn": "silu", "time_embedding_dim": 64,
        "time_embedding_type": "fourier", "timestep_post_act": "silu", "transformer_layers_per_block": [1, 2],
        "dropout": 0.5, "upcast_attention": True, "torch_dtype": "float16", "dtype": "float16",
        "class_embeddings_concat": True, "projection_class_embeddings_input_dim": 3, "addition_time_embed_dim": 8,
        "addition_embed_type_num_heads": 32,
    },
    "vae": {
        "act_fn": "gelu", "latents_mean": [0.1] * 4, "latents_std": [2.0] * 4, "mid_block_add_attention": False,
        "shift_factor": 0.1, "use_post_quant_conv": False, "use_quant_conv": False, "sample_size": 512,
        "force_upcast": False, "torch_dtype": "float16", "dtype": "float16",
    },
    "text_encoder": {
        "hidden_act": "gelu", "layer_norm_eps": 1e-6, "use_attention_mask": True, "is_decoder": True,
        "add_cross_attention": True, "tie_encoder_decoder": True, "model_type": "bert",
        "architectures": ["RobertaModel"], "pruned_heads": {"0": [0]},
    },
}  # fmt: skip
TABLES = {
    "unet": settings.UNET_SETTINGS,
    "vae": settings.VAE_SETTINGS,
    "text_encoder": settings.TEXT_SETTINGS,
}


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, table in TABLES.items() for name in fixed(table)]
)
def test_fixed_settings_are_refused_by_name(part, name, folder, tmp_path):
    path = edited(folder, tmp_path / "m", f"{part}/config.json", **{name: OTHER[part][name]})
    with pytest.raises(CheckpointError, match=f"{part}: {name} must be .*; got ") as caught:
        load_sd15(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", irrelevant(settings.UNET_SETTINGS))
def test_irrelevant_settings_of_the_unet(name, pipe, folder, answer, tmp_path):
    value = OTHER["unet"][name]
    if name not in ("torch_dtype", "dtype"):
        other = diffusers.UNet2DConditionModel.from_config({**pipe.unet.config, name: value}).eval()
        other.load_state_dict(pipe.unet.state_dict())
        args = torch.ones(1, 4, 8, 8), 5, torch.ones(1, 7, pipelines.CONTEXT)
        with torch.no_grad():
            assert torch.equal(other(*args).sample, pipe.unet(*args).sample)
    path = edited(folder, tmp_path / "m", "unet/config.json", **{name: value})
    np.testing.assert_array_equal(load_sd15(path).denoise(X, T, PROMPT), answer)


@pytest.mark.parametrize("name", irrelevant(settings.VAE_SETTINGS))
def test_irrelevant_settings_of_the_autoencoder(name, pipe, folder, tmp_path):
    value = OTHER["vae"][name]
    if name not in ("torch_dtype", "dtype"):
        other = diffusers.AutoencoderKL.from_config({**pipe.vae.config, name: value}).eval()
        other.load_state_dict(pipe.vae.state_dict())
        with torch.no_grad():
            assert torch.equal(
                other.decode(torch.ones(1, 4, 8, 8)).sample, pipe.vae.decode(torch.ones(1, 4, 8, 8)).sample
            )
    path = edited(folder, tmp_path / "m", "vae/config.json", **{name: value})
    np.testing.assert_array_equal(load_sd15(path).pictures(X[:1]), load_sd15(folder).pictures(X[:1]))


OTHER_TEXT = {
    "attention_dropout": 0.5, "dropout": 0.5, "initializer_factor": 2.0, "initializer_range": 0.5,
    "projection_dim": 7, "pad_token_id": 3, "id2label": {"0": "x"}, "dtype": "float32",
}  # fmt: skip


def test_irrelevant_settings_of_the_text_encoder(pipe, folder, tmp_path):
    """All others at once as well: they change no state."""
    names = irrelevant(settings.TEXT_SETTINGS)
    expected = load_sd15(folder).encode(PROMPT).states
    for number, (name, value) in enumerate(OTHER_TEXT.items()):
        config = transformers.CLIPTextConfig(**{**pipe.text_encoder.config.to_dict(), name: value})
        other = transformers.CLIPTextModel(config).eval()
        other.load_state_dict(pipe.text_encoder.state_dict())
        with torch.no_grad():
            ids = torch.arange(20)[None]
            assert torch.equal(other(ids)[0], pipe.text_encoder(ids)[0])
        path = edited(folder, tmp_path / str(number), "text_encoder/config.json", **{name: value})
        np.testing.assert_array_equal(load_sd15(path).encode(PROMPT).states, expected)
    path = edited(folder, tmp_path / "m", "text_encoder/config.json", **dict.fromkeys(names, 1))
    np.testing.assert_array_equal(load_sd15(path).encode(PROMPT).states, expected)


OTHER_TOKENIZER = {
    "unk_token": "!", "do_lower_case": False, "padding_side": "left", "truncation_side": "left",
    "split_special_tokens": True, "add_prefix_space": True, "tokenizer_class": "BertTokenizer",
    "pad_to_multiple_of": 8, "auto_map": {"AutoTokenizer": "x.Y"},
}  # fmt: skip


@pytest.mark.parametrize("name", fixed(settings.TOKENIZER_SETTINGS))
def test_fixed_settings_of_the_tokenizer(name, folder, tmp_path):
    path = edited(folder, tmp_path / "m", "tokenizer/tokenizer_config.json", **{name: OTHER_TOKENIZER[name]})
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {name} must be .*; got "):
        load_sd15(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("add_bos_token", False),
        ("add_eos_token", False),
        ("errors", "strict"),
        ("clean_up_tokenization_spaces", True),
        ("max_length", 20),
        ("stride", 2),
        ("truncation_strategy", "only_first"),
        ("pad_token_type_id", 1),
    ],
)
def test_irrelevant_settings_of_the_tokenizer(name, value, folder, tmp_path):
    path = edited(folder, tmp_path / "m", "tokenizer/tokenizer_config.json", **{name: value})
    theirs = transformers.CLIPTokenizer.from_pretrained(path / "tokenizer")
    texts = [PROMPT, "", "a dog, don't  HIDE"]
    expected = theirs(texts, padding="max_length", max_length=tiny.POSITIONS, truncation=True).input_ids
    np.testing.assert_array_equal(load_sd15(path).tokenize(texts), expected)


def test_every_parameter_of_peft_is_in_the_table():
    peft = pytest.importorskip("peft")
    assert {field.name for field in dataclasses.fields(peft.LoraConfig)} <= set(settings.ADAPTER_SETTINGS)


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_unknown_settings_are_refused_unless_they_are_null_or_false(file, folder, tmp_path):
    load_sd15(edited(folder, tmp_path / "a", file, of_tomorrow=None, of_later=False))
    with pytest.raises(CheckpointError, match=r"the setting 'of_tomorrow' = 0\.5 is not known here"):
        load_sd15(edited(folder, tmp_path / "b", file, of_tomorrow=0.5))


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("unet/config.json", {"block_out_channels": [32, 32]}, r"states block_out_channels = \[32, 32\], the"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, "states down_block_types"),
        ("unet/config.json", {"cross_attention_dim": 32}, "states cross_attention_dim = 32"),
        ("vae/config.json", {"latent_channels": 16}, "states latent_channels = 16, the tensors are those of 4"),
        ("text_encoder/config.json", {"vocab_size": 49408}, "states vocab_size = 49408"),
        ("text_encoder/config.json", {"num_hidden_layers": 4}, "is 4, but there are tensors of 3 layers"),
    ],
)  # fmt: skip
def test_sizes_that_contradict_the_tensors(file, entries, message, folder, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load_sd15(edited(folder, tmp_path / "m", file, **entries))


def test_every_role_is_tried_and_has_its_reason():
    for table in (
        *TABLES.values(),
        settings.SCHEDULER_SETTINGS,
        settings.TOKENIZER_SETTINGS,
        settings.ADAPTER_SETTINGS,
    ):
        for name, setting in table.items():
            assert setting.role in (settings.HONOURED, settings.FIXED, settings.IRRELEVANT), name
            assert bool(setting.values) == (setting.role == settings.FIXED), name
            assert bool(setting.reason) == (setting.role == settings.IRRELEVANT), name
    assert dataclasses.is_dataclass(settings.Setting)
    assert set(module.PREDICTIONS) == set(module.SPELLINGS.values())
