"""Published weights by name, and their places on this machine.

Nothing here reads a checkpoint or opens a connection.
"""

import dataclasses
import os
import re
from pathlib import Path

import platformdirs

from neural.checkpoints.checkpoint import CheckpointError, quoted

CACHE_VARIABLE = "SPECIATION_CACHE"
EDM2_ADDRESS = "https://nvlabs-fi-cdn.nvidia.com/edm2/posthoc-reconstructions/"

_EDM2_NAME = re.compile(r"edm2-img\d{2,4}-[a-z]{1,3}(-uncond)?-\d{7}-\d\.\d{3}")


@dataclasses.dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: of the file.
        address: where it is published.
        size: its bytes as others report them, for display alone; None where unknown.
        sha256: its checksum, where it is published.
    """

    name: str
    address: str
    size: int | None = None
    sha256: str | None = None

    @property
    def is_checkpoint(self) -> bool:
        """Whether it holds weights."""
        return Path(self.name).suffix in (".pkl", ".safetensors", ".ckpt", ".bin", ".pt", ".pth")

    @property
    def path(self) -> Path:
        """Its path once it is fetched."""
        return cache_folder() / self.name


@dataclasses.dataclass(frozen=True)
class Repository:
    """Files of one revision of a repository on the Hugging Face hub.

    Attributes:
        folder_name: the folder of the cache that they are fetched into, under their own names.
        name: owner and name.
        revision: the commit.
        files: paths in it.
        size: about how many bytes they have together, for display.
    """

    folder_name: str
    name: str
    revision: str
    files: tuple[str, ...]
    size: int

    @property
    def folder(self) -> Path:
        """The folder that they are fetched into."""
        return cache_folder() / self.folder_name

    @property
    def address(self) -> str:
        """The page of the revision."""
        return f"https://huggingface.co/{self.name}/tree/{self.revision}"

    def missing(self) -> list[str]:
        """Files that are not on this machine."""
        return [file for file in self.files if not (self.folder / file).is_file()]


@dataclasses.dataclass(frozen=True)
class Preset:
    """Files that are used together.

    Attributes:
        about: one line.
        files: the network first, its unconditional sibling second; none where there is a repository.
        repository: the folder that holds them all, if they are published so.
        licence: of the weights.
    """

    about: str
    files: tuple[Published, ...] = ()
    repository: Repository | None = None
    licence: str = ""


def _edm2(stem: str, size: int | None = None) -> Published:
    return Published(f"{stem}.pkl", f"{EDM2_ADDRESS}{stem}.pkl", size)


DINOV2_ADDRESS = "https://dl.fbaipublicfiles.com/dinov2/"


def _dinov2(letter: str, registers: bool = False) -> Preset:
    """A network of DINOv2 and its linear head for ImageNet's classes."""
    base = f"dinov2_vit{letter}14"
    full = f"{base}_reg4" if registers else base
    names = (f"{full}_pretrain.pth", f"{full}_linear_head.pth")
    return Preset(
        f"DINOv2 ViT-{letter.upper()}/14{' with registers' if registers else ''}, and its linear head for ImageNet",
        tuple(Published(name, f"{DINOV2_ADDRESS}{base}/{name}") for name in names),
        licence="Apache 2.0",
    )


PRESETS: dict[str, Preset] = {
    "edm2-xs": Preset(
        "EDM2-XS, ImageNet 512x512: the conditional network and its unconditional sibling, EMA length 0.045",
        (
            _edm2("edm2-img512-xs-2147483-0.045", 249_566_482),
            _edm2("edm2-img512-xs-uncond-2147483-0.045", 248_541_796),
        ),
        licence="CC BY-NC-SA 4.0",
    ),
    "sd15": Preset(
        "Stable Diffusion 1.5: U-Net, autoencoder, text encoder and tokenizer, float32",
        repository=Repository(
            "sd15",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            (
                "model_index.json",
                "scheduler/scheduler_config.json",
                "tokenizer/vocab.json",
                "tokenizer/merges.txt",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors",
                "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors",
            ),
            4_267_000_000,
        ),
        licence="CreativeML Open RAIL-M",
    ),
    "sd-vae-ft-mse": Preset(
        "the autoencoder of EDM2's ImageNet-512 latents: Stable Diffusion's, fine-tuned on squared error",
        repository=Repository(
            "sd-vae-ft-mse",
            "stabilityai/sd-vae-ft-mse",
            "31f26fdeee1355a5c34592e401dd41e45d25a493",
            ("config.json", "diffusion_pytorch_model.safetensors"),
            334_643_823,
        ),
        licence="MIT",
    ),
    **{f"dinov2-{letter}": _dinov2(letter) for letter in "sblg"},
    **{f"dinov2-{letter}-reg": _dinov2(letter, registers=True) for letter in "sblg"},
    "clip-l": Preset(
        "CLIP ViT-L/14, both towers: a judge of images by prompts",
        repository=Repository(
            "clip-l",
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            ("config.json", "model.safetensors", "vocab.json", "merges.txt"),
            1_710_000_000,
        ),
        licence="MIT",
    ),
    "inception-fid": Preset(
        "Inception-v3 of the Fréchet inception distance, as ported to PyTorch",
        (
            Published(
                "pt_inception-2015-12-05-6726825d.pth",
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
                95_628_359,
            ),
        ),
        licence="Apache 2.0",
    ),
}


def cache_folder() -> Path:
    """The folder of fetched weights: ``$SPECIATION_CACHE``, else the platform's folder for such files."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return (
        Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("speciation", appauthor=False)
    )


def published(name: str) -> tuple[Published, ...] | None:
    """The files of a preset, or the one file of an official EDM2 name; None for any other name."""
    if name in PRESETS:
        return PRESETS[name].files or None
    stem = name.removesuffix(".pkl")
    return (_edm2(stem),) if _EDM2_NAME.fullmatch(stem) else None


def published_files(name: str) -> tuple[Published, ...] | Repository:
    """As `published`, and the repository of a preset that has one.

    Raises:
        ValueError: for a name that is neither.
    """
    files = PRESETS[name].repository if name in PRESETS else None
    files = files or published(name)
    if files is None:
        raise ValueError(
            f"NAME must be one of {', '.join(PRESETS)}, or an official name such as "
            f"edm2-img512-s-2147483-0.130; got {name!r}"
        )
    return files


def sibling(path: Path) -> Path | None:
    """The file of the unconditional network beside a conditional one, if it exists.

    Official names contain ``-uncond`` in the middle, others at the end.
    """
    official = re.fullmatch(r"(edm2-img\d+-[a-z]+)(-\d{7}-\d\.\d{3})", path.stem)
    stem = f"{official[1]}-uncond{official[2]}" if official else f"{path.stem}-uncond"
    beside = path.with_name(stem + path.suffix)
    return beside if beside.exists() else None


def _fetched(name: str, repository: Repository) -> Path:
    if missing := repository.missing():
        raise CheckpointError(
            f"{missing[0]} of {name} is not on this machine; run `speciation weights fetch {name}`, or put the "
            f"files of {repository.address} into {repository.folder}"
        )
    return repository.folder


def locate(source: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files of a source on this machine: of a preset or an official name in the cache, else the path itself.

    Returns:
        The network's file; a preset's unconditional one follows it. Of a repository, its folder.

    Raises:
        CheckpointError: when there is no such file, with the way to get it.
    """
    name = os.fspath(source)
    named = isinstance(source, str) and not os.path.exists(name)
    preset = PRESETS.get(name) if named else None
    if preset is not None and preset.repository is not None:
        return (_fetched(name, preset.repository),)
    files = published(name) if named else None
    if files is None:
        # Unlike Path.exists this does not raise for a name that no file can have.
        if not os.path.exists(name):
            raise CheckpointError(f"no such file: {quoted(name)}; nor is it a preset ({', '.join(PRESETS)})")
        return (Path(name),)
    for file in files:
        if not file.path.exists():
            raise CheckpointError(
                f"{file.name} is not on this machine; run `speciation weights fetch {name}`, or put the file "
                f"from {file.address} at {file.path}"
            )
    return tuple(file.path for file in files)
