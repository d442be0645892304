"""Stable Diffusion 1.5 in JAX: U-Net, autoencoder, text encoder and tokenizer as a denoiser."""

from neural.stable_diffusion.autoencoder import VAE
from neural.stable_diffusion.denoiser import SD15, Config, Prompts
from neural.stable_diffusion.loading import load_sd15, load_vae

__all__ = ["SD15", "VAE", "Config", "Prompts", "load_sd15", "load_vae"]
