"""An own model in twenty lines: two classes of images, and when the model decides between them.

    python examples/own_model.py
    speciation window --model examples/own_model.py:model --trust-code

Replace `denoise` by a network: it returns E[x_0 | x_t, class] for noisy states x (n, 16), the noise level t and a
class. For a PyTorch network, one call of `neural.from_torch` replaces it.
"""

import jax
import jax.numpy as jnp

import gmm
import neural

MEANS = 2 * jnp.array([jnp.sin(jnp.arange(16.0)), jnp.cos(jnp.arange(16.0))])


def denoise(x, t, label):
    """The posterior mean of a Gaussian class with variance 1 under x_t = x_0 + t ε."""
    mean = jnp.broadcast_to(MEANS[jnp.asarray(label)], x.shape)
    return mean + (x - mean) / (1 + t**2)


model = neural.from_function(denoise, gmm.edm(), conditions=[0, 1], state_shape=(16,))

if __name__ == "__main__":
    print(neural.check_denoiser(model))
    curve = neural.online_entropy(model, [0, 1], key=jax.random.key(0), samples=256, steps=32)
    low, _, high = gmm.window(curve).sigma
    print(f"the model decides between sigma/alpha = {low:.2f} and {high:.2f}")
    gmm.save_window("window.json", gmm.MeasuredWindow.from_curve(curve, model="own_model"))
