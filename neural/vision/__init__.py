"""Vision networks that judge images: DINOv2, CLIP and Inception-v3, in JAX."""
