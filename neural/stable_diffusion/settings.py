"""Every setting of a folder's configuration files, and what loading does with it.

A setting is *honoured*: the networks here compute with it. It is *fixed*: only the listed values are supported,
others are refused by name. Or it is *irrelevant*: E[x_0 | x_t, prompt] does not depend on it, for the reason that
is given. The names are those of the configuration classes of diffusers and transformers. A setting that is in no
table is refused too, unless it is null or false, the values with which a later release adds a setting that
changes nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]

HONOURED, FIXED, IRRELEVANT = "honoured", "fixed", "irrelevant"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What loading does with one setting.

    Attributes:
        role: `HONOURED`, `FIXED` or `IRRELEVANT`.
        values: of a fixed setting: those that are supported, the usual one first.
        reason: why a setting is irrelevant, or why another value is refused.
    """

    role: str
    values: tuple[Any, ...] = ()
    reason: str = ""


Table = Mapping[str, Setting]


def _table(*groups: dict[str, Setting]) -> Table:
    return {name: setting for group in groups for name, setting in group.items()}


def _honoured(names: str) -> dict[str, Setting]:
    return dict.fromkeys(names.split(), Setting(HONOURED))


def _irrelevant(reason: str, names: str) -> dict[str, Setting]:
    return dict.fromkeys(names.split(), Setting(IRRELEVANT, (), reason))


def _fixed(*values: Any, names: str) -> dict[str, Setting]:
    return dict.fromkeys(names.split(), Setting(FIXED, values))


_PRECISION = "changes only the precision of the arithmetic"
_TRAINING = "is used in training alone"
_RECORD = "is a record of how the file was made"

UNET_SETTINGS = _table(
    _honoured(
        "sample_size in_channels out_channels down_block_types up_block_types block_out_channels layers_per_block "
        "cross_attention_dim attention_head_dim norm_num_groups use_linear_projection"
    ),
    _fixed("silu", "swish", names="act_fn"),
    _fixed("UNetMidBlock2DCrossAttn", names="mid_block_type"),
    _fixed("default", names="attention_type resnet_time_scale_shift"),
    _fixed("positional", names="time_embedding_type"),
    _fixed(
        None,
        names="addition_embed_type class_embed_type encoder_hid_dim encoder_hid_dim_type num_attention_heads "
        "num_class_embeds reverse_transformer_layers_per_block time_cond_proj_dim time_embedding_act_fn "
        "time_embedding_dim timestep_post_act cross_attention_norm",
    ),
    _fixed(
        False,
        None,
        names="center_input_sample dual_cross_attention only_cross_attention resnet_skip_time_act "
        "mid_block_only_cross_attention",
    ),
    _fixed(True, names="flip_sin_to_cos"),
    _fixed(0, names="freq_shift"),
    _fixed(
        1,
        names="downsample_padding mid_block_scale_factor resnet_out_scale_factor transformer_layers_per_block",
    ),
    _fixed(3, names="conv_in_kernel conv_out_kernel"),
    _fixed(1e-5, names="norm_eps"),
    _irrelevant(_TRAINING, "dropout"),
    _irrelevant(_PRECISION, "upcast_attention torch_dtype dtype"),
    _irrelevant("has no effect without class_embed_type", "class_embeddings_concat"),
    _irrelevant("has no effect without class_embed_type", "projection_class_embeddings_input_dim"),
    _irrelevant("has no effect without addition_embed_type", "addition_time_embed_dim"),
    _irrelevant("has no effect without addition_embed_type", "addition_embed_type_num_heads"),
)

VAE_SETTINGS = _table(
    _honoured(
        "in_channels out_channels down_block_types up_block_types block_out_channels layers_per_block "
        "latent_channels norm_num_groups scaling_factor"
    ),
    _fixed("silu", "swish", names="act_fn"),
    _fixed(True, names="mid_block_add_attention use_quant_conv use_post_quant_conv"),
    _fixed(None, 0, names="shift_factor"),
    _fixed(None, names="latents_mean latents_std"),
    _irrelevant("only chooses the tiles of large pictures", "sample_size"),
    _irrelevant(_PRECISION, "force_upcast torch_dtype dtype"),
)

TEXT_SETTINGS = _table(
    _honoured(
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings "
        "text_config bos_token_id eos_token_id"
    ),
    _fixed("quick_gelu", names="hidden_act"),
    _fixed(1e-5, names="layer_norm_eps"),
    _fixed(False, None, names="use_attention_mask is_decoder add_cross_attention tie_encoder_decoder"),
    _fixed("clip_text_model", "clip", "clip_text_with_projection", names="model_type"),
    _fixed(["CLIPTextModel"], ["CLIPModel"], ["CLIPTextModelWithProjection"], None, names="architectures"),
    _irrelevant(
        _TRAINING, "dropout attention_dropout initializer_factor initializer_range gradient_checkpointing"
    ),
    _irrelevant(_TRAINING, "id2label label2id problem_type num_labels finetuning_task"),
    _irrelevant(_PRECISION, "torch_dtype dtype attn_implementation chunk_size_feed_forward"),
    _irrelevant("belongs to the projection, which Stable Diffusion does not use", "projection_dim"),
    _irrelevant("padding comes from the tokenizer", "pad_token_id sep_token_id decoder_start_token_id"),
    _irrelevant(
        "changes what the library returns besides the states", "output_hidden_states output_attentions"
    ),
    _irrelevant(
        "changes what the library returns besides the states", "return_dict use_cache use_return_dict"
    ),
    _irrelevant(
        "describes no text encoder", "is_encoder_decoder tie_word_embeddings tokenizer_class torchscript"
    ),
    _irrelevant(
        "is CLIP's for pictures", "vision_config vision_config_dict text_config_dict logit_scale_init_value"
    ),
    _irrelevant(_RECORD, "transformers_version name_or_path"),
    # What older releases of transformers wrote for models that generate text.
    _irrelevant(
        "is for models that generate text",
        "bad_words_ids begin_suppress_tokens cross_attention_hidden_size diversity_penalty do_sample early_stopping "
        "encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id "
        "length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences "
        "output_scores prefix remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens "
        "task_specific_params temperature tf_legacy_loss top_k top_p typical_p",
    ),
    _fixed({}, None, names="pruned_heads"),
)

_SAMPLER = "chooses how diffusers steps from one noise level to the next, not what a state at one level means"
SCHEDULER_SETTINGS = _table(
    _honoured(
        "num_train_timesteps beta_start beta_end beta_schedule trained_betas prediction_type rescale_betas_zero_snr"
    ),
    _fixed(False, None, names="use_flow_sigmas use_dynamic_shifting"),
    _fixed("discrete", names="timestep_type"),
    _fixed(None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", names="variance_type"),
    _irrelevant(
        _SAMPLER,
        "algorithm_type clip_sample clip_sample_range corrector_order disable_corrector dynamic_thresholding_ratio "
        "eta euler_at_final final_sigmas_type interpolation_type lambda_min_clipped lower_order_final predict_x0 "
        "predictor_order sample_max_value set_alpha_to_one sigma_max sigma_min skip_prk_steps solver_order solver_p "
        "solver_type steps_offset tau_func thresholding timestep_spacing use_beta_sigmas use_exponential_sigmas "
        "use_karras_sigmas use_lu_lambdas noise_sampler_seed",
    ),
    _irrelevant("has no effect without use_flow_sigmas", "flow_shift time_shift_type shift_terminal"),
    # Keys of other schedulers, which diffusers keeps in the file and does not read.
    _irrelevant("belongs to consistency models' schedulers", "original_inference_steps timestep_scaling"),
    _irrelevant("is no setting of a chain of betas", "skip_sample"),
)

TOKENIZER_SETTINGS = _table(
    _honoured(
        "bos_token eos_token pad_token model_max_length added_tokens_decoder additional_special_tokens "
        "extra_special_tokens"
    ),
    _fixed("<|endoftext|>", names="unk_token"),
    _fixed(True, names="do_lower_case"),
    _fixed("right", names="padding_side truncation_side"),
    _fixed(False, None, names="split_special_tokens add_prefix_space"),
    _fixed("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", names="tokenizer_class"),
    _fixed(None, names="pad_to_multiple_of auto_map"),
    _irrelevant("is overruled by CLIP's own start and end", "add_bos_token add_eos_token"),
    _irrelevant(
        "is used from tokens to texts", "errors clean_up_tokenization_spaces decode_with_prefix_space"
    ),
    _irrelevant(
        _RECORD, "name_or_path special_tokens_map_file tokenizer_file backend is_local local_files_only"
    ),
    _irrelevant(_RECORD, "processor_class model_input_names from_slow legacy vocab_file merges_file"),
    _irrelevant("is overruled by the pipeline, which always fills and cuts", "max_length stride"),
    _irrelevant(
        "is overruled by the pipeline, which always fills and cuts", "truncation_strategy pad_token_type_id"
    ),
    _irrelevant("is for models of conversations", "chat_template"),
)

PIPELINE_SETTINGS = _table(
    _honoured("scheduler"),
    _fixed(["diffusers", "AutoencoderKL"], names="vae"),
    _irrelevant("is loaded from its folder, whose files say more", "unet text_encoder tokenizer"),
    _irrelevant(
        "judges pictures after they are made", "safety_checker requires_safety_checker feature_extractor"
    ),
    _irrelevant("is read by IP-Adapters alone, whose tensors are refused", "image_encoder"),
)

ADAPTER_SETTINGS = _table(
    _honoured("r lora_alpha alpha_pattern use_rslora"),
    _fixed("LORA", names="peft_type"),
    _fixed(False, None, names="use_dora fan_in_fan_out lora_bias use_qalora use_bdlora"),
    _fixed("none", None, names="bias"),
    _fixed(
        None,
        [],
        names="modules_to_save layer_replication trainable_token_indices target_parameters arrow_config "
        "alora_invocation_tokens kasa_config monteclora_config velora_config",
    ),
    _irrelevant("is seen from the tensors", "rank_pattern target_modules exclude_modules"),
    _irrelevant("is seen from the tensors", "layers_pattern layers_to_transform"),
    _irrelevant(
        _TRAINING, "lora_dropout init_lora_weights inference_mode loftq_config eva_config corda_config"
    ),
    _irrelevant(_TRAINING, "megatron_config megatron_core task_type runtime_config qalora_group_size"),
    _irrelevant(_TRAINING, "ensure_weight_tying lora_ga_config"),
    _irrelevant(_RECORD, "auto_mapping base_model_name_or_path revision peft_version"),
)


def plain(value: Any) -> Any:
    """A list of equal entries, one for each level, as the entry that it repeats; anything else as it is."""
    if isinstance(value, list | tuple) and value and all(_equal(entry, value[0]) for entry in value):
        return value[0]
    return value


def check_settings(part: str, options: Options, table: Table) -> None:
    """Refuse what is not computed as it is asked for.

    Args:
        part: whose settings they are, for the message.
        options: entries of a configuration file.
        table: of that file.

    Raises:
        ValueError: naming the setting, its value and what is supported.
    """
    for name, value in options.items():
        if name.startswith("_"):
            continue
        setting = table.get(name)
        if setting is None:
            _check_unknown(part, name, value)
        elif setting.role == FIXED and not any(_is_one_of(value, allowed) for allowed in setting.values):
            allowed = " or ".join(map(repr, setting.values))
            raise ValueError(
                f"{part}: {name} must be {allowed}, as in Stable Diffusion 1.5; got {_shown(value)}"
            )


def _check_unknown(part: str, name: str, value: Any) -> None:
    if value is not None and value is not False:
        raise ValueError(
            f"{part}: the setting {_shown(name)} = {_shown(value)} is not known here, so its effect cannot be "
            "computed; remove the entry if it has none"
        )


def _is_one_of(value: Any, allowed: Any) -> bool:
    return _equal(value, allowed) or (not isinstance(allowed, list) and _equal(plain(value), allowed))


def _equal(a: Any, b: Any) -> bool:
    return a == b and (isinstance(a, bool) == isinstance(b, bool) or isinstance(a, list | dict | None))


def _shown(value: Any, longest: int = 60) -> str:
    text = ascii(value)
    return text if len(text) <= longest else text[:longest] + "..."
